"""The manual pages say what the code says: options, events, reasons, and nothing is left out."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla import cli, config
from smilla.answer import reply
from smilla.config import Config, Rule
from smilla.config import text as config_text
from smilla.config.options import SECTIONS, Circle, DecryptRule, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE_OF = {"top": "status", "withdraw": "publish"}  # commands that stand on another's page
ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.name for path in (ROOT / "man").glob("*.[578]"))
MANUAL = (ROOT / "man" / "smilla.8").read_text("utf-8")
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


def test_every_command_has_a_page_with_all_its_options() -> None:
    parser = cli.parser(list(cli.COMMANDS))
    for command, options in _options_of(parser).items():
        page = (ROOT / "man" / f"smilla-{_PAGE_OF.get(command, command)}.8").read_text("utf-8")
        assert options - _words(page.replace("Fl -", "Fl ").replace("\\-", "-")) == set(), command
        assert f".It Xr smilla-{_PAGE_OF.get(command, command)} 8\n" in MANUAL, command


def _options_of(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """The long options of each command, those of its actions included."""
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: set(_long_options(command)) for name, command in commands.choices.items()}


def _long_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for further in action.choices.values():
                yield from _long_options(further)
        yield from (name.removeprefix("--") for name in action.option_strings if name[:2] == "--" and name != "--help")


def test_every_reply_stands_in_diagnostics_as_a_client_is_told_it() -> None:
    shown = re.sub(r"\\&", "", DIAGNOSTICS)
    replies = [
        answer.text
        for answer in vars(reply).values()
        if isinstance(answer, reply.Reply) and answer.code[:1] in ("4", "5")
    ]
    assert len(replies) > 8
    assert [text for text in [*replies, *reply.TEXTS.values(), reply.UNUSABLE] if text not in shown] == []


def test_every_page_that_a_page_names_is_there() -> None:
    named = {
        f"{name}.{section}"
        for page in PAGES
        for name, section in re.findall(r"\bXr (smilla\S*) (\d)", (ROOT / "man" / page).read_text("utf-8"))
    }
    assert len(named) > 10
    assert named - set(PAGES) == set()


@pytest.mark.parametrize("page", PAGES)
def test_whatis_finds_each_page_by_the_name_of_its_file(page: str) -> None:
    """whatis(1) knows a page by the words of its NAME section, and by no two words."""
    text = (ROOT / "man" / page).read_text("utf-8")
    names = re.findall(r"(?m)^\.Nm (.*?)(?: ,)?$", text[text.index(".Sh NAME") : text.index("\n.Nd ")])
    assert page.rpartition(".")[0] == names[0]
    assert not any(" " in name for name in names)


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
            assert kind in (Rule, Circle, DecryptRule) or re.search(rf"^{name} = ", config_text.sample(), re.MULTILINE)


def test_the_examples_of_the_manual_are_configurations(tmp_path: Path) -> None:
    page = (ROOT / "man" / "smilla.toml.5").read_text("utf-8")
    examples = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 7
    (tmp_path / "partner.crt").touch()
    for example in examples:
        config.parse(re.sub("/etc/smilla/(keys)?", f"{tmp_path}/", example))


def test_the_sample_is_the_defaults() -> None:
    assert config.parse(config_text.sample()) == Config()
    assert tomllib.loads(config_text.sample())["policy"]["no_key"] == "plain"


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing(page: str) -> None:
    """But that our pages are not installed."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", ROOT / "man" / page], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "manual not found: Xr smilla" not in line] == []


def test_haproxy_is_more_patient_than_smilla() -> None:
    """Else it would cut an upload that smilla still waits for."""
    example = (ROOT / "contrib/haproxy/haproxy.cfg.example").read_text("utf-8")
    found = dict(re.findall(r"^ +timeout (client|server|tunnel) +(\d+)s$", example, re.MULTILINE))
    assert len(found) == 3
    assert all(int(seconds) > Config().milter.timeout_s for seconds in found.values())
