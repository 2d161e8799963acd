"""The manual pages say what the code says: options, events, reasons, and nothing is left out."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from smilla import config
from smilla.config import Config, Rule
from smilla.config import text as config_text
from smilla.config.options import SECTIONS, options_of

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "man" / "smilla.8").read_text("utf-8")
PAGES = sorted((ROOT / "man").glob("*.[0-9]"))
COMMANDS = "".join(page.read_text("utf-8") for page in PAGES if page.suffix == ".8")
DIAGNOSTICS = MANUAL[MANUAL.index(".Sh DIAGNOSTICS") :]


def _first_arguments(*functions: str, position: int = 0) -> set[str]:
    """The literal strings that calls of these functions anywhere in smilla have at this position."""
    found = set()
    for path in (ROOT / "smilla").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > position:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                argument = node.args[position]
                if name in functions and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z0-9_-]+", text))


def test_every_event_of_the_log_stands_in_diagnostics() -> None:
    events = _first_arguments("_event", position=1) | _first_arguments("line", position=1)
    events |= {"encrypted", "unchanged", "plain", "deferred", "refused", "held"}
    assert len(events) > 32
    assert events - _words(DIAGNOSTICS) == set()


def test_every_reason_stands_in_diagnostics() -> None:
    reasons = _first_arguments("Reason", "RefusedError", "against", "not_meant") - {"ok", "wanted", "plain"}
    assert len(reasons) > 80
    assert sorted(reasons - _words(DIAGNOSTICS)) == []


def test_every_command_and_option_stands_in_the_synopsis() -> None:
    options = {name.removeprefix("--") for name in _first_arguments("add_argument") if name.startswith("--")}
    assert options - _words(COMMANDS.replace("Fl -", "Fl ").replace("\\-", "-")) == set()


def test_the_generated_pages_are_those_of_the_option_table() -> None:
    command = [sys.executable, str(ROOT / "man" / "make"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_option_stands_in_the_manual_and_in_the_sample() -> None:
    page = (ROOT / "man" / "smilla.toml.5").read_text("utf-8")
    kinds: list[type[Any]] = [Config, *SECTIONS.values()]
    for kind in kinds:
        for name in options_of(kind):
            assert f".It Cm {name} " in page
            assert kind is Rule or re.search(rf"^{name} = ", config_text.sample(), re.MULTILINE)


def test_the_examples_of_the_manual_are_configurations(tmp_path: Path) -> None:
    page = (ROOT / "man" / "smilla.toml.5").read_text("utf-8")
    examples = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        config.parse(example.replace("/etc/smilla/keys", str(tmp_path)))


def test_the_sample_is_the_defaults() -> None:
    assert config.parse(config_text.sample()) == Config()
    assert tomllib.loads(config_text.sample())["policy"]["no_key"] == "plain"


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_mandoc_finds_nothing(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", ROOT / "man" / page], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_haproxy_is_more_patient_than_smilla() -> None:
    """Else it would cut an upload that smilla still waits for."""
    example = (ROOT / "contrib/haproxy/haproxy.cfg.example").read_text("utf-8")
    found = dict(re.findall(r"^ +timeout (client|server|tunnel) +(\d+)s$", example, re.MULTILINE))
    assert len(found) == 3
    assert all(int(seconds) > Config().milter.timeout_s for seconds in found.values())
