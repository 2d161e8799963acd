"""Without a service manager smilla itself looks at Postfix's lines: beside its work, and nothing is sealed before."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.postfix_lines import PostfixLines
from smilla.answer import reply
from smilla.config import parse
from tests.lab.processes import Child, processes_in, wait_until
from tests.lab.programs import REPOSITORY
from tests.lab.smilla import to_toml
from tests.milter.material import directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.milter.client import Clients
    from tests.milter.material import Keys

BOTH = ["<alice@r.test>", "<zoe@r.test>"]
LOOKING = reply.NOT_READY.line


@contextmanager
def running(keys: Keys, place: Path, postconf: str, *, known: bool = True) -> Iterator[Child]:
    """A filter that finds this shell script as postconf."""
    programs = place / "bin"
    programs.mkdir()
    (programs / "postconf").write_text(f"#!/bin/sh\ncd {place}\necho asked >> asked\n{postconf}\n")
    (programs / "postconf").chmod(0o755)
    settings = directory_settings(
        keys,
        milter={"socket": f"unix:{place}/s", "workers": 1},
        policy={"no_key": "plain", "mixed": "stage"},
        reinject={"spool": f"{place}/spool"},
        stage={"socket": f"unix:{place}/stage.sock", "keys": f"{place}/seal"},
    )
    (place / "smilla.toml").write_text(to_toml(settings))
    (place / "main.cf").touch()
    if known:  # found before, and in order
        PostfixLines(parse((place / "smilla.toml").read_text()).stage).keep(str(place), [])
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "PATH": f"{programs}:{environment['PATH']}"}
    command: list[str | Path] = [sys.executable, "-m", "smilla", "milter", "--config", place / "smilla.toml"]
    child = Child("smilla", command, place / "log", environment=environment)
    with child.start(ready=lambda: " started " in (place / "log").read_text(), timeout_s=30):
        yield child


def answer(clients: Clients, place: Path, *to: str) -> str:
    with clients.open(f"unix:{place}/s", greet=False) as client:
        client.connect("127.0.0.1", macros={"v": "Postfix 3.10.13"})
        found = client.send(plain_mail(to="alice@r.test, zoe@r.test"), to or BOTH, sender="<sender@s.test>")
        return found.reply or found.verdict


def asked(place: Path) -> int:
    return len((place / "asked").read_text().splitlines()) if (place / "asked").exists() else 0


def test_mail_is_served_while_the_look_goes_on_and_nothing_is_sealed(
    keys: Keys, tmp_path: Path, clients: Clients
) -> None:
    began_at = time.monotonic()
    with running(keys, tmp_path, "sleep 120; exit 1") as child:
        assert time.monotonic() - began_at < 60
        assert answer(clients, tmp_path, "<alice@r.test>") == "accept"
        assert answer(clients, tmp_path).startswith(LOOKING)
        assert wait_until(lambda: asked(tmp_path) == 1, 20)
        child.signal(signal.SIGHUP)
        assert wait_until(lambda: "- reloaded" in (tmp_path / "log").read_text(), 30)
        assert answer(clients, tmp_path).startswith(LOOKING)
        began_at = time.monotonic()
        child.signal(signal.SIGTERM)
        assert wait_until(lambda: not child.running, 30)
        assert time.monotonic() - began_at < 30
        assert wait_until(lambda: processes_in(tmp_path) == [], 30), processes_in(tmp_path)


@pytest.mark.parametrize("reload", [False, True])
def test_what_the_look_finds_counts_once_it_is_over(keys: Keys, tmp_path: Path, clients: Clients, reload: bool) -> None:
    with running(keys, tmp_path, "while [ ! -e go ]; do sleep 0.1; done; echo fatal: broken >&2; exit 1") as child:
        log = tmp_path / "log"
        assert answer(clients, tmp_path).startswith(LOOKING)
        if reload:
            child.signal(signal.SIGHUP)
            assert wait_until(lambda: "- reloaded" in log.read_text(), 30)
        assert wait_until(lambda: asked(tmp_path) == 1, 20)
        (tmp_path / "go").touch()
        # postconf tells nothing, so what was found before stays.
        assert wait_until(lambda: answer(clients, tmp_path) == "accept", 30)
        # A reload during the look has it look once more.
        assert asked(tmp_path) == (2 if reload else 1)


def test_while_nothing_may_be_sealed_smilla_looks_again_now_and_then(
    keys: Keys, tmp_path: Path, clients: Clients
) -> None:
    finds = "[ ! -e finds ] || mv finds seal/postfix.json"
    with running(keys, tmp_path, f"{finds}; echo fatal: broken >&2; exit 1"):
        assert wait_until(lambda: answer(clients, tmp_path) == "accept", 30)
        before = asked(tmp_path)
        lines = PostfixLines(parse((tmp_path / "smilla.toml").read_text()).stage)
        lines.keep(str(tmp_path), ["a line is missing"])
        assert answer(clients, tmp_path) == LOOKING
        assert wait_until(lambda: asked(tmp_path) > before, 60)
        assert wait_until(lambda: '- stage-not-ready detail="a line is missing' in (tmp_path / "log").read_text(), 60)
        lines.keep(str(tmp_path), [])
        assert wait_until(lambda: " stage-ready" in (tmp_path / "log").read_text(), 60)
        assert answer(clients, tmp_path) == "accept"
        lines.keep(str(tmp_path), ["a line is missing"])
        told = '- stage-not-ready detail="a line is missing'
        assert wait_until(lambda: (tmp_path / "log").read_text().count(told) == 2, 60)
        shutil.copy(tmp_path / "seal/postfix.json", tmp_path / "found")

        def is_told_again() -> bool:
            """It was mended before the next look, broken again, and the next look finds what the last one found."""
            lines.keep(str(tmp_path), ["another line is missing"])
            shutil.copy(tmp_path / "found", tmp_path / "finds")
            assert wait_until(lambda: not (tmp_path / "finds").exists(), 60)
            return wait_until(lambda: (tmp_path / "log").read_text().count(told) > 2, 30)

        assert is_told_again() or is_told_again()  # a look may have begun before
        lines.keep(
            str(tmp_path), ["postfix: Postfix does not ask smilla yet; smilla init --apply"], kinds=["not-attached"]
        )
        told = r"- stage-not-ready detail=.postfix: Postfix does not ask.*severity=warning"
        assert wait_until(lambda: re.search(told, (tmp_path / "log").read_text()) is not None, 60)


def test_where_a_look_kept_nothing_smilla_looks_once_more(keys: Keys, tmp_path: Path, clients: Clients) -> None:
    with running(keys, tmp_path, "echo fatal: broken >&2; exit 1", known=False):
        assert wait_until(lambda: asked(tmp_path) == 1, 30)
        assert answer(clients, tmp_path).startswith("451 4.3.5")
        assert wait_until(lambda: asked(tmp_path) > 1, 60)
