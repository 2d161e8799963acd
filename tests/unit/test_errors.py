"""Every error has a code, says whether it is temporary, and has a reply that keeps the mail with the sending side."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import ssl
from collections import Counter
from pathlib import Path

import pytest

import smilla
from smilla.answer import reply
from smilla.errors import JournalBusy, JournalError, MTALost, SmillaError, code_of, words_of

MANUAL = (Path(__file__).resolve().parents[2] / "man" / "smilla.8").read_text("utf-8")
REASONS = MANUAL[MANUAL.index(".Sh DIAGNOSTICS") :]

for module in pkgutil.walk_packages(smilla.__path__, "smilla."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)


def _and_below(kind: type[SmillaError]) -> list[type[SmillaError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _and_below(below))]


ERRORS = list(dict.fromkeys(kind for kind in _and_below(SmillaError) if kind.__module__.startswith("smilla.")))


def _made(kind: type[SmillaError]) -> SmillaError:
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_error_has_a_code_that_the_manual_explains_and_a_reply_that_keeps_the_mail(kind: type[SmillaError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert re.search(rf"^\.It Cm {kind.code}$", REASONS, re.MULTILINE)
    assert kind.temporary in (True, False)
    answer = reply.for_error(_made(kind))
    # One that is not temporary never reaches the MTA: where it does all the same, the fault is ours.
    assert kind.temporary or answer is reply.INTERNAL
    assert (answer.verb, answer.code[0], answer.enhanced[:2]) == (reply.Verb.TEMPFAIL, "4", "4.")
    assert answer.text


def test_error_of_the_system_is_told_in_words_without_its_number() -> None:
    assert words_of(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert words_of(TimeoutError("timed out")) == "timed out"
    assert words_of(OSError()) == "OSError"
    of_tls = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
    of_tls.library, of_tls.reason = "SSL", "WRONG_VERSION_NUMBER"
    assert words_of(of_tls) == "TLS: wrong version number"


def test_no_two_errors_state_one_code() -> None:
    stated = Counter(kind.code for kind in ERRORS if "code" in vars(kind))
    assert len(ERRORS) > 15
    assert stated == {"internal": 1, "journal": 1, "busy": 1, "mta_lost": 1}


def test_the_nearest_kind_decides_and_what_is_unknown_is_internal() -> None:
    assert [reply.for_error(kind()) for kind in (JournalBusy, JournalError, MTALost, ValueError)] == [
        reply.BUSY,
        reply.JOURNAL,
        reply.INTERNAL,
        reply.INTERNAL,
    ]
    assert [code_of(error) for error in (JournalBusy(), MTALost(), ValueError(), None)] == [
        "busy",
        "mta_lost",
        "internal",
        "internal",
    ]


def test_what_names_pip_says_that_the_debian_package_has_it() -> None:
    """The package has all Python packages inside, and no pip."""
    root = Path(smilla.__file__).parent
    trees = [ast.parse(path.read_text("utf-8")) for path in root.rglob("*.py")]
    told = [
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip install" in node.value
    ]
    assert len(told) >= 5
    assert [text for text in told if "the Debian package has " not in text] == []
