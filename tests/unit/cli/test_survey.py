"""smilla survey: what it takes, and what it says without a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from smilla.survey.found import Found, Way, to_line
from smilla.survey.look import Asked, Survey
from tests.certificates import make_certificate, to_pem
from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.survey.samples import FOUND, HOST, SILENT


def result(asked: str) -> Found:
    domain = asked.rpartition("@")[2]
    found = replace(FOUND, asked=asked, domain=domain)
    if domain.startswith("silent"):
        number = domain.removeprefix("silent").partition(".")[0]
        server = replace(SILENT, address=f"192.0.2.{number}")
        host = replace(HOST, name=f"mx.{domain}", servers=(server,))
        return replace(found, way=Way.UNKNOWN, why="no server could be asked", hosts=(host,))
    return found


@pytest.fixture
def survey(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command with results made up here, so that no thread asks anybody; in the order of the list."""
    ca_file = commands.file("ca.pem", to_pem(make_certificate("p256", ca=True)[1]))
    config = commands.config(f'[hop]\nca_file = "{ca_file}"\n')

    def begin(self: Survey, asked: Asked) -> None:
        self._deliver(result(asked.text))

    monkeypatch.setattr(Survey, "begin", begin)

    def run(*arguments: str | Path, stdin: bytes = b"") -> Done:
        return commands.run("survey", "--config", config, "--ehlo", "test.example", *arguments, stdin=stdin)

    return run


def test_one_line_a_domain_and_a_sum_in_the_end(survey: Callable[..., Done]) -> None:
    done = survey("a.example", "ann@b.example")
    assert done.out.decode().splitlines() == [
        "a.example: smilla would send: DANE: TLSA 3 1 1 0707 matches at mx.example.org",
        "ann@b.example: smilla would send: DANE: TLSA 3 1 1 0707 matches at mx.example.org",
        "",
        "DANE               2  100.0 %",
    ]
    assert (done.code, done.err) == (0, "")


def test_json_is_an_object_a_line(survey: Callable[..., Done]) -> None:
    done = survey("--json", "-f", "-", stdin=b"# list\na.example\nB.Example # the same in capitals\nb.example\n\n")
    assert [json.loads(line)["asked"] for line in done.out.splitlines()] == ["a.example", "b.example"]


def test_quiet_says_nothing_and_writes_the_report(survey: Callable[..., Done], tmp_path: Path) -> None:
    done = survey("--quiet", "--html", tmp_path / "report.html", "a.example")
    assert (done.out, done.err, done.code) == (b"", "", 0)
    assert "a.example" in (tmp_path / "report.html").read_text()


def test_resumed_it_shows_what_is_known_and_asks_for_the_rest(survey: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "results"
    known = replace(result("a.example"), why="as it was")
    path.write_text(to_line(known) + "\n" + to_line(result("b.example"))[:50])
    done = survey("--json", "--resume", path, "b.example", "a.example")
    shown = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["asked"], one["why"] == "as it was") for one in shown] == [("a.example", True), ("b.example", False)]
    assert [json.loads(line)["asked"] for line in path.read_text().splitlines()] == ["a.example", "b.example"]


def test_blocked_port_ends_it_early_and_nothing_is_kept(survey: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "results"
    done = survey("--resume", path, *(f"silent{number}.example" for number in range(60)))
    assert done.code == 75
    assert "error: outgoing port 25 seems to be blocked: none of 20 addresses answers\n" in done.err
    assert path.read_bytes() == b""


def test_silent_servers_are_kept_once_somebody_answered(survey: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "results"
    done = survey("--resume", path, "silent1.example", "silent2.example", "a.example")
    assert (done.code, done.err) == (75, "")
    kept = [json.loads(line)["asked"] for line in path.read_text().splitlines()]
    assert kept == ["silent1.example", "silent2.example", "a.example"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "give domains or addresses, or -f FILE"),
        (["--port", "0", "a.example"], "--port: give a number from 1 to 65535"),
        (["--timeout", "0", "a.example"], "--timeout: give a number from 1 to 600"),
        (["--parallel", "1000", "a.example"], "--parallel: give a number from 1 to 256"),
        (["--days", "-1", "a.example"], "--days: give a number from 0"),
        (["--ehlo", "two words", "a.example"], "--ehlo: give a host's name"),
        (["--ca-file", "/nonexistent", "a.example"], "/nonexistent: "),
        (["a..example", "b example"], "a..example"),
        (["@a.example"], "@a.example"),
    ],
)
def test_arguments_that_do_not_fit_are_named(survey: Callable[..., Done], arguments: list[str], fault: str) -> None:
    done = survey(*arguments)
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("error: ")
    assert fault in done.err


def test_circle_without_its_authorities_ends_the_survey_before_anybody_is_asked(commands: CommandLine) -> None:
    ca_file = commands.file("ca.pem", to_pem(make_certificate("p256", ca=True)[1]))
    junk = commands.file("junk.pem", b"no certificate\n")
    circle = f'[[circle]]\nname = "ours"\ndomains = ["a.example"]\nca_file = "{junk}"\n'
    config = commands.config(f'[hop]\nca_file = "{ca_file}"\n{circle}')
    done = commands.run("survey", "--config", config, "a.example")
    assert (done.code, done.out) == (2, b"")
    assert f"[[circle]] ours, ca_file {junk}: no certification authorities in PEM" in done.err


def test_report_without_jinja2_is_refused_before_anybody_is_asked(
    survey: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find_spec(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(sys.modules["smilla.cli.survey"], "find_spec", find_spec)
    done = survey("--html", tmp_path / "report.html", "a.example")
    assert (done.code, done.out) == (78, b"")
    assert "jinja2" in done.err
