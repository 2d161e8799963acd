"""A pytest plugin: which test runs which line of smilla, by coverage's contexts, written as JSON.

``SMILLA_MAP`` names the file to write: ``{node id: [seconds, {file: [line, ...]}]}``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

from tests.mutants import codes

ROOT = Path(__file__).parents[2]


class Mapping:
    """Switches coverage to a test's own context while it runs."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.coverage = coverage.Coverage(data_file=None, include=[f"{ROOT}/smilla/*"], config_file=False)
        self.coverage.start()
        self.caches = codes.caches(f"{ROOT}/smilla/")

    def pytest_collection_finish(self) -> None:
        self.caches = codes.caches(f"{ROOT}/smilla/")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        for cache in self.caches:
            cache.cache_clear()
        self.coverage.switch_context(item.nodeid)
        start = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = round(time.monotonic() - start, 3)
        self.coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        found: dict[str, tuple[float, dict[str, list[int]]]] = {
            test: (seconds, {}) for test, seconds in self.seconds.items() if test not in self.failed
        }
        data = self.coverage.get_data()
        for path in data.measured_files():
            name = Path(path).relative_to(ROOT).as_posix()
            for line, tests in data.contexts_by_lineno(path).items():
                for test in tests:
                    if test in found:
                        found[test][1].setdefault(name, []).append(line)
        self.target.write_text(json.dumps(found), "utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Mapping(Path(os.environ["SMILLA_MAP"])))
