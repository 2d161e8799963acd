"""``make mutants``: change smilla in one place at a time, and see whether a test fails.

cosmic-ray finds the places and makes the changes (operators.py); what runs the tests is our own, for speed: a mutant
takes a fraction of a second, since a child is forked from a pytest that has imported and collected everything, and
runs the tests that pass over the changed line (worker.py, codes.py, mapping.py).  Tests that start other processes
or need a network are not asked: tests/unit and tests/vectors only.

It may be stopped at any time and started again.  What was killed stays killed while its file is the same; what
survived is tried again once the tests have changed.  State: .cache/mutants/; result: .cache/mutants.json.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tests.mutants.operators import mutated, positions

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "mutants"
TARGETS = (
    *("policy/decision.py", "policy/requirement.py", "policy/rules.py", "classify.py", "keys/lookup.py"),
    *("answer/reply.py", "server/stage.py", "handover/seal.py", "handover/reinject.py", "adapters/journal.py"),
    *("adapters/journal_store.py", "policy/request.py", "keys/discovery/finder.py", "keys/discovery/directory.py"),
    *("keys/validity/smimea.py", "keys/validity/pgp.py", "keys/validity/x509.py", "keys/validity/x509_checks.py"),
    *("keys/validity/x509_paths.py", "keys/validity/x509_revocation.py", "keys/validity"),
)
# Nothing there is decided by a target, and their tests are slow.
NOT_ASKED = ("tests/unit/config", "tests/unit/formats", "tests/unit/encrypt", "tests/unit/test_architecture.py")
WORKERS = 2
SHOWN = ("survived", "allowed", "timeout")
# Of the tests of a line, so many seconds are run, those of the mirrored folder and the others apart.  A mutant that
# takes five times as long as they did, and the time to fork, hangs.
TESTS_S = 6.0
TIMES = 5
SPARE_S = 15.0


@dataclass
class Mutant:
    """One change, and what became of it.  What it makes of the file is worked out where it is needed: that is slow."""

    file: str
    line: int
    operator: str
    occurrence: int
    key: str
    status: str = "not run"
    why: str = ""

    @cached_property
    def diff(self) -> str:
        source = (ROOT / self.file).read_text("utf-8")
        text = mutated(source, self.operator, self.occurrence)
        changed = difflib.unified_diff(source.splitlines(), text.splitlines(), lineterm="", n=0)
        return "\n".join(row for row in changed if not row.startswith(("---", "+++", "@@")))


def main() -> int:
    parser = argparse.ArgumentParser(description="mutation run")
    parser.add_argument("--files", nargs="*", default=[], help="files or folders; those that count most, unless told")
    parser.add_argument("--time", default="30m", help="how long at most: 90s, 20m, 2h")
    options = parser.parse_args()
    number, unit = re.fullmatch(r"(\d+)([smh]?)", options.time).groups("s")  # type: ignore[union-attr]
    deadline = time.time() + int(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    CACHE.mkdir(parents=True, exist_ok=True)
    files = list(_files(options.files or [f"smilla/{name}" for name in TARGETS]))
    tests = Tests()
    mutants = [mutant for file in files for mutant in _mutants(file)]
    known = _known(mutants, tests.digest)
    waiting = [mutant for mutant in mutants if mutant.status == "not run"]
    print(f"{len(mutants)} mutants in {len(files)} files, {len(known)} known, {len(waiting)} to run", flush=True)
    _run(waiting, tests, deadline)
    _known(mutants, tests.digest)
    return _report(mutants)


def _files(names: Iterable[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        path = ROOT / name
        if not path.exists():
            raise SystemExit(f"error: no such file or folder: {name}")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file not in seen:
                seen.add(file)
                yield file.relative_to(ROOT).as_posix()


def _mutants(file: str) -> Iterator[Mutant]:
    source = (ROOT / file).read_text("utf-8")
    for name, occurrence, line in positions(source):
        key = hashlib.sha256(f"{file}\0{source}\0{name}\0{occurrence}".encode()).hexdigest()[:24]
        yield Mutant(file, line, name, occurrence, key)


class Tests:
    """Which tests pass over a line; learnt from a run under coverage, anew for each test file that changed."""

    def __init__(self) -> None:
        paths = sorted(
            path
            for folder in ("tests/unit", "tests/vectors")
            for path in (ROOT / folder).rglob("test_*.py")
            if not path.relative_to(ROOT).as_posix().startswith(NOT_ASKED)
        )
        marks = {path.relative_to(ROOT).as_posix(): _digest([path]) for path in paths}
        self.digest = hashlib.sha256("".join(marks.values()).encode()).hexdigest()
        mapped = {test_file: CACHE / f"map-{mark}.json" for test_file, mark in marks.items()}
        _learn({test_file: target for test_file, target in mapped.items() if not target.exists()})
        self.seconds: dict[str, float] = {}
        self.by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.by_file: dict[str, set[str]] = defaultdict(set)
        for target in mapped.values():
            for test, (seconds, lines) in json.loads(target.read_text("utf-8")).items():
                self.seconds[test] = seconds
                for file, numbers in lines.items():
                    self.by_file[file].add(test)
                    for number in numbers:
                        self.by_line[file, number].add(test)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests to run: one of each function first, those of the mirrored file first, the quick ones first."""
        statement = _statement(mutant.file, mutant.line)
        found = {test for line in statement for test in self.by_line.get((mutant.file, line), ())}
        return self._chosen(mutant.file, found or self.by_file[mutant.file])

    def _chosen(self, file: str, tests: set[str]) -> list[str]:
        place = PurePosixPath("tests/unit", file.removeprefix("smilla/"))
        mirror = (f"{place.parent}/", str(place.with_name("test_" + place.name)))[place.parent.name == "unit"]
        nth: Counter[str] = Counter()
        ranked = []
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            function = test.partition("[")[0]
            ranked.append((nth[function], self.seconds[test], test))
            nth[function] += 1
        chosen: dict[bool, list[str]] = {True: [], False: []}
        left = {True: TESTS_S, False: TESTS_S}
        for _, seconds, test in sorted(ranked):
            mirrored = test.startswith(mirror)
            if seconds <= left[mirrored]:
                chosen[mirrored].append(test)
                left[mirrored] -= seconds
        return chosen[True] + chosen[False]

    def limit_s(self, tests: list[str]) -> float:
        return TIMES * sum(self.seconds[test] for test in tests) + SPARE_S


_STATEMENTS: dict[str, list[range]] = {}


def _statement(file: str, line: int) -> range:
    """The lines of the statement that a line is in; of one with a block, the lines before the block."""
    if file not in _STATEMENTS:
        _STATEMENTS[file] = [
            range(node.lineno, _block(node) or (node.end_lineno or 0) + 1)
            for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
            if isinstance(node, (ast.stmt, ast.ExceptHandler))
        ]
    return min((lines for lines in _STATEMENTS[file] if line in lines), key=len, default=range(line, line + 1))


def _block(node: ast.AST) -> int | None:
    body: list[ast.stmt] = getattr(node, "body", [])
    return body[0].lineno if body else None


def _learn(missing: dict[str, Path]) -> None:
    """Run test files under coverage, on two cores."""
    if not missing:
        return
    print(f"which test runs which line: {len(missing)} test files, some minutes where it is all of them", flush=True)
    running = []
    for number in range(WORKERS):
        part = CACHE / f"part-{number}.json"
        part.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.mutants.mapping"]
        command += [f"--basetemp={CACHE / f'tmp-{number}'}", "-k", "not linear"]
        files = list(missing)[number::WORKERS]
        if files:
            environment = os.environ | {"SMILLA_MAP": str(part)}
            process = subprocess.Popen([*command, *files], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            running.append((process, part, files))
    for process, part, files in running:
        process.wait()
        found: dict[str, dict[str, Any]] = {test_file: {} for test_file in files}
        for test, what in json.loads(part.read_text("utf-8")).items():
            found[test.partition("::")[0]][test] = what
        for test_file, tests in found.items():
            missing[test_file].write_text(json.dumps(tests), "utf-8")


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:24]


def _known(mutants: list[Mutant], digest: str) -> list[Mutant]:
    """Tell the mutants what is known of them already."""
    found: dict[str, str] = {}
    for path in CACHE.glob("results-*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["status"] not in ("survived", "timeout") or path.name == f"results-{digest[:24]}.jsonl":
                found[row["key"]] = row["status"]
    allowed = tomllib.loads((ROOT / "tests/mutants/allowed.toml").read_text("utf-8")).get("allowed", [])
    for mutant in mutants:
        mutant.status = found.get(mutant.key, "not run")
        if mutant.status == "survived":
            mutant.why = next((rule["why"] for rule in allowed if _allows(rule, mutant)), "")
            mutant.status = "allowed" if mutant.why else "survived"
    return [mutant for mutant in mutants if mutant.status != "not run"]


def _allows(rule: dict[str, str], mutant: Mutant) -> bool:
    """Whether a survivor is on the list: of that file (of any, where none is named), and its diff holds these words
    (and these, where there are)."""
    return (
        mutant.file == rule.get("file", mutant.file)
        and rule["was"] in mutant.diff
        and rule.get("becomes", "") in mutant.diff
    )


def _run(waiting: list[Mutant], tests: Tests, deadline: float) -> None:
    running = []
    for number in range(WORKERS):
        jobs: list[dict[str, Any]] = []
        for mutant in waiting[number::WORKERS]:
            chosen = tests.of(mutant)
            if not chosen:
                continue
            if not jobs or jobs[-1]["file"] != mutant.file:
                clean = tests._chosen(mutant.file, tests.by_file[mutant.file])
                jobs.append(_job(mutant, clean, tests, key="clean " + mutant.file))
            jobs.append(_job(mutant, chosen, tests, key=mutant.key))
        if not jobs:
            continue
        files = sorted({test.partition("::")[0] for job in jobs for test in job["tests"]})
        work = CACHE / f"jobs-{number}.json"
        results = CACHE / f"results-{tests.digest[:24]}.jsonl"
        work.write_text(json.dumps({"deadline": deadline, "results": str(results), "jobs": jobs}), "utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "tests.mutants.worker"]
        command += [f"--basetemp={CACHE / f'tmp-{number}'}", *files]
        environment = os.environ | {"SMILLA_JOBS": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
        with (CACHE / f"worker-{number}.log").open("w") as log:
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    for number, process in enumerate(running):
        if process.wait() not in (0, 5):
            print(f"error: worker {number}: see {CACHE}/worker-{number}.log", file=sys.stderr)


def _job(mutant: Mutant, chosen: list[str], tests: Tests, *, key: str) -> dict[str, Any]:
    change = (mutant.operator, mutant.occurrence) if key == mutant.key else None
    return {"key": key, "file": mutant.file, "change": change, "tests": chosen, "limit_s": tests.limit_s(chosen)}


def _report(mutants: list[Mutant]) -> int:
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        by_file[mutant.file][mutant.status] += 1
    for mutant in mutants:
        if mutant.status == "survived":
            print(f"\n{mutant.file}:{mutant.line}: survived ({mutant.operator})\n{mutant.diff}")
    columns = ("killed", "timeout", "survived", "allowed", "equivalent", "broken", "not run")
    print("\n" + " " * 42 + "".join(f"{name:>11}" for name in (*columns, "score")))
    for file, counted in by_file.items():
        good = counted["killed"] + counted["timeout"]
        judged = good + counted["survived"]
        score = f"{100 * good / judged:.1f} %" if judged else "-"
        print(f"{file:42}" + "".join(f"{counted[name]:>11}" for name in columns) + f"{score:>11}")
    table = [asdict(mutant) | ({"diff": mutant.diff} if mutant.status in SHOWN else {}) for mutant in mutants]
    (ROOT / ".cache/mutants.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
