"""A pytest plugin: collects once, then forks for each mutant a child that runs the tests chosen for it, up to the first
that fails.

``SMILLA_JOBS`` names a file of JSON: ``{deadline, results, jobs: [{key, file, change, tests, limit_s}, ...]}``; to
``results`` a line ``{key, status}`` is added for each: killed, survived, timeout, equivalent (the same code), broken.
A job whose key is ``clean`` is smilla unchanged: where that fails, nothing that follows would mean anything.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop as run_loop
from hypothesis import Phase, settings

from tests.mutants import codes
from tests.mutants.operators import mutated

ROOT = Path(__file__).parents[2]


def pytest_runtestloop(session: pytest.Session) -> bool:
    work = json.loads(Path(os.environ["SMILLA_JOBS"]).read_text("utf-8"))
    items = {item.nodeid: item for item in session.items}
    # A failure needs no smallest example here.
    settings.register_profile("mutants", settings(), database=None, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutants")
    living = codes.alive(f"{ROOT}/smilla/")
    for cache in codes.caches(f"{ROOT}/smilla/"):
        cache.cache_clear()
    gc.freeze()  # a child that collects garbage would copy all the memory
    with Path(work["results"]).open("a", encoding="utf-8") as results:
        for job in work["jobs"]:
            if time.time() > work["deadline"]:
                break
            status = _judge(session, living, job, [items[name] for name in job["tests"] if name in items])
            print(json.dumps({"key": job["key"], "status": status}), file=results, flush=True)
            if not job["change"] and status != "survived":
                raise pytest.UsageError(f"{job['file']}: its tests fail without a mutant: {status}")
    return True


def _judge(session: pytest.Session, living: codes.Alive, job: dict[str, Any], items: list[pytest.Item]) -> str:
    path = ROOT / job["file"]
    try:
        before = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        source = path.read_text("utf-8")
        text = mutated(source, *job["change"]) if job["change"] else source
        after = compile(text, str(path), "exec", dont_inherit=True)
        put = partial(codes.swap, codes.changed(before, after), living)
    except SyntaxError:
        return "broken"
    except codes.RunsAtImport:
        return _with_constants(session, job, items, source, text)
    if not put.args[0] and job["change"]:
        return "equivalent"
    return _by_import(job, text) if (code := _in_child(session, job, items, put)) == "import" else code


def _with_constants(session: pytest.Session, job: dict[str, Any], items: list[pytest.Item], *texts: str) -> str:
    """What survives is tried again by import, since other modules may have made something of the constant."""
    statements = codes.constants(*texts)
    if statements is None:
        return _by_import(job, texts[1])
    module = sys.modules[_module(job)]
    code = _in_child(session, job, items, partial(codes.assign, statements, module))
    return _by_import(job, texts[1]) if code == "survived" else code


def _module(job: dict[str, Any]) -> str:
    name: str = job["file"].removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return name


def _in_child(session: pytest.Session, job: dict[str, Any], items: list[pytest.Item], put: Callable[[], bool]) -> str:
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        signal.alarm(int(job["limit_s"]) + 10)  # should the parent be gone by then
        _run(session, items, put)
    return _wait(child, job["limit_s"])


def _run(session: pytest.Session, items: list[pytest.Item], put: Callable[[], bool]) -> None:
    """In the child: put the mutant in place, run the tests, and end with 0 where all pass."""
    code = 1
    try:
        if not put():
            code = 3
        else:
            session.items[:] = items
            run_loop(session)
            code = 1 if session.testsfailed else 0
    except BaseException:
        code = 1 if code != 3 else 3
    finally:
        os._exit(code)


def _wait(child: int, limit_s: float) -> str:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return {0: "survived", 3 << 8: "import"}.get(status, "killed")
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _by_import(job: dict[str, Any], source: str) -> str:
    text = Path(os.environ["SMILLA_JOBS"]).with_suffix(".py.txt")
    text.write_text(source, "utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "tests.mutants.imported"]
    command += [f"--basetemp={text.with_suffix('.tmp')}", *job["tests"][:300]]
    environment = os.environ | {"SMILLA_MUTANT": f"{_module(job)}:{text}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, timeout=job["limit_s"] + 30, check=False
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed" if done.returncode else "survived"
