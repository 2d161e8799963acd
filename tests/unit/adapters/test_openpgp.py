"""An engine that is missing: the option that wants it, and both ways out."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from smilla.adapters import libunbound_abi, openpgp
from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.errors import EngineMissing
from smilla.keys import lookup
from smilla.model import KeyVerdict
from tests.vectors.memory import KEYS, NOW, make_ports

ALONE = 'or leave OpenPGP out: in [keys], sources = ["smimea"]'


@pytest.mark.parametrize(
    ("name", "missing", "hides", "told"),
    [
        ("sequoia", ("pysequoia",), False, ["pip install pysequoia", 'or write engine = "gnupg", which is here']),
        ("sequoia", ("pysequoia", "gpg"), False, ["pip install pysequoia", ALONE]),
        ("sequoia", ("pysequoia", "gnupg"), False, ["pip install pysequoia", ALONE]),
        ("gnupg", ("gpg",), False, ["Debian: gpg", 'or write engine = "sequoia", which is here']),
        ("gnupg", ("gnupg",), False, ["pip install python-gnupg", 'or write engine = "sequoia", which is here']),
        ("gnupg", ("gpg",), True, ["Debian: gpg", ALONE]),
        ("gnupg", ("pysequoia", "gpg"), False, ["Debian: gpg", ALONE]),
        ("auto", ("pysequoia", "gpg"), False, ["pip install pysequoia", "Debian: gpg", ALONE]),
    ],
)
def test_a_missing_engine_names_the_option_and_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: tuple[str, ...], hides: bool, told: list[str]
) -> None:
    if "gpg" in missing:
        monkeypatch.setenv("PATH", "/nonexistent")
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
        for module in ("gnupg", "sequoia"):
            monkeypatch.delitem(sys.modules, f"smilla.adapters.{module}", raising=False)
    with pytest.raises(EngineMissing) as caught:
        openpgp.engine(name, hides=hides)
    assert f'[openpgp] engine = "{name}"' in str(caught.value)
    assert [word for word in told if word not in str(caught.value)] == []
    assert str(caught.value).endswith(told[-1])


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        (("smimea", "openpgpkey"), 'or leave OpenPGP out: in [keys], sources = ["smimea"]'),
        (("openpgpkey",), 'or leave OpenPGP out: in [keys], sources = ["smimea"]'),
        (
            ("directory", "smimea"),
            "or give up the folder and OpenPGP, so that S/MIME from DNS alone is left: in [keys]",
        ),
        (("openpgpkey", "directory"), "(a folder has keys of both formats, so an engine is needed as long as it is"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "gnupg", "sequoia"])
def test_the_way_out_without_openpgp_is_made_of_the_sources_that_are_there(
    monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...], told: str, name: str
) -> None:
    """A mend that was taken literally has dropped the folder."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    monkeypatch.delitem(sys.modules, "smilla.adapters.sequoia", raising=False)
    with pytest.raises(EngineMissing) as caught:
        openpgp.engine(name, sources=sources)
    assert told in str(caught.value)


def test_hidden_recipients_without_gpg_have_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        EngineMissing, match=r"hidden_recipients needs gpg: .*Debian: gpg.*; or take it out of \[openpgp\]"
    ):
        openpgp.engine("auto", hides=True)


def test_a_missing_libunbound_has_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libunbound_abi, "_LIBRARY", "libunbound-missing.so.0")
    with pytest.raises(EngineMissing, match=r'\[dns\] dnssec = "validate" needs .*; or write dnssec = "resolver"'):
        libunbound_abi.load()


def test_openpgp_key_that_nobody_expected_is_unusable_instead_of_failing_the_message() -> None:
    settings = Config(keys=KeysOptions(sources=("smimea",)))
    ports = replace(make_ports(), openpgp=openpgp.NoEngine())
    pending = lookup.begin_of_rule(parse("a@x.test"), str(KEYS / "pia.pgp"), ports, settings)
    found = lookup.finish(pending, 0.0, NOW, ports)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNUSABLE_KEY, "engine_refuses")
