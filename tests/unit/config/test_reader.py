"""The configuration: every fault is named with its line and its nearest key, and what is shown says the same."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.config import Config, Rule, load, parse
from smilla.config import text as config_text
from smilla.config.options import (
    CONDITIONS,
    FAILURES,
    HOP_FAILURES,
    SECTIONS,
    Circle,
    DecryptRule,
    KeysOptions,
    OpenPGPOptions,
    PolicyOptions,
    options_of,
)
from smilla.errors import ConfigError


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "smilla.toml")
    return list(caught.value.faults)


def test_empty_file_is_the_default() -> None:
    assert parse("") == Config()


def test_sample_is_the_default_with_every_option() -> None:
    sample = config_text.sample()
    assert parse(sample) == Config()
    for name, kind in [("", Config), *SECTIONS.items()]:
        for option in options_of(kind):
            assert f"{option} =" in sample or f"#   {option}: " in sample, f"[{name}] {option}"


def test_contracts_defaults_are_the_defaults() -> None:
    default = Config()
    assert (default.observe, default.mode, default.local_domains) == (False, "outbound", ())
    assert default.internal_networks == ("127.0.0.0/8", "::1")
    assert (default.milter.timeout_s, default.milter.socket_mode, default.milter.stop_timeout_s) == (7210, "0660", 30)
    assert (default.dns.nameservers, default.dns.dnssec, default.dns.timeout_s) == (("127.0.0.1",), "resolver", 5)
    assert (default.keys.sources, default.keys.try_lowercase) == (("smimea", "openpgpkey"), False)
    assert (default.smime.cipher, default.smime.rsa_padding, default.openpgp.engine) == ("aes256-cbc", "pkcs1", "auto")
    policy = default.policy
    assert (policy.no_key, policy.insecure, policy.bogus, policy.unreachable) == ("plain", "plain", "defer", "defer")
    assert (policy.unusable_key, policy.mixed, default.milter.mta) == ("", "", "")
    assert (default.log.level, default.log.format, default.log.target) == ("info", "text", "stderr")


# --- faults; further ones in tests/bad_configs --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("observe = 1", "observe", "true or false"),
        ("observe = 'yes'", "observe", "true or false"),
        ("mode = 'outbond'", "mode", "did you mean outbound?"),
        ("mode = 1", "mode", "a string"),
        ("local_domains = 'example.org'", "local_domains", "a list of strings"),
        ("local_domains = [1]", "local_domains", "a list of strings"),
        ("local_domains = ['a@example.org']", "local_domains", "domain names or patterns"),
        ("local_domains = ['']", "local_domains", "domain names or patterns"),
        ("local_domains = ['-ä.example']", "local_domains", "'-ä.example' is none"),
        ("internal_networks = ['192.0.2']", "internal_networks", "networks such as"),
        ("[milter]\nsocket = '/run/x'", "socket", "unix:/PATH or inet:PORT@HOST"),
        ("[milter]\nworkers = -1", "workers", "a whole number from 0 to 1024"),
        ("[milter]\nworkers = 1.5", "workers", "a whole number"),
        ("[milter]\nworkers = true", "workers", "a whole number"),
        ("[milter]\ntimeout_s = 1", "timeout_s", "from 10 to 86400"),
        ("[milter]\nsocket_mode = '999'", "socket_mode", "an octal mode"),
        ("[milter]\nsocket_mode = 432", "socket_mode", "a string"),
        ("[dns]\nnameservers = ['localhost']", "nameservers", "IP addresses"),
        ("[dns]\nnameservers = ['127.0.0.1@0']", "nameservers", "IP addresses"),
        ("[dns]\nnameservers = ['127.0.0.1@x']", "nameservers", "IP addresses"),
        ("[dns]\ndnssec = 'off'", "dnssec", "one of resolver, validate"),
        ("[dns]\ntimeout_s = 0", "timeout_s", "a number from 0.1 to 60"),
        ("[dns]\ntimeout_s = nan", "timeout_s", "a number from 0.1 to 60"),
        ("[dns]\ntimeout_s = inf", "timeout_s", "a number from 0.1 to 60"),
        ("[dns]\ntimeout_s = '5'", "timeout_s", "a number from 0.1 to 60"),
        ("[keys]\nsources = []", "sources", "distinct names out of"),
        ("[keys]\nsources = ['smimea', 'smimea']", "sources", "distinct names out of"),
        ("[keys]\nsources = ['dane']", "sources", "distinct names out of smimea"),
        ("[keys]\ndirectory = 'keys'", "directory", "an absolute path"),
        ("[smime]\ncipher = 'aes256'", "cipher", "did you mean aes256-"),
        ("[smime]\nca_file = 'ca.pem'", "ca_file", "an absolute path"),
        ("[policy]\nbogus = 'plain'", "bogus", "one of defer, refuse, hold"),
        ("[policy]\nunreachable = 'plain'", "unreachable", "one of defer, refuse, hold"),
        ("[policy]\nno_key = 'perhaps'", "no_key", "one of plain, secure-hop, defer, refuse, hold"),
        ("[policy]\nno_key = ''", "no_key", "one of plain"),
        ("[policy]\nmixed = 'plain'", "mixed", "one of stage, reinject, defer, refuse"),
        ("[[rule]]\nrecipient = '*'\nbogus = 'plain'", "bogus", "one of defer, refuse, hold"),
        ("[[rule]]\nrecipient = 'example.org'", "recipient", "a pattern for addresses"),
        ("[[rule]]\nrecipient = '*@'", "recipient", "a pattern for addresses"),
        ("[[rule]]\nrecipient = '*@[^b]ücher.example'", "recipient", "a pattern for addresses"),
        ("[[rule]]\ndomain = ['a@example.org']", "domain", "domain names or patterns"),
        ("[[rule]]\nclient = ['192.0.2']", "client", "networks such as"),
        ("[[rule]]\ndirection = 'auto'", "direction", "one of outbound, inbound"),
        ("[[rule]]\nuser = 1", "user", "a string"),
        ("[[rule]]\nencrypt = 'always'\nuser = '*'", "encrypt", "one of require, never"),
        ("[[rule]]\nformats = []\nuser = '*'", "formats", "distinct names out of smime, openpgp"),
        ("[[rule]]\nformats = ['pgp']\nuser = '*'", "formats", "distinct names out of smime, openpgp"),
        ("[[rule]]\nalso_to = ['nobody']\nuser = '*'", "also_to", "the word sender"),
        ("[[rule]]\nalso_to = ['*@example.org']\nuser = '*'", "also_to", "the word sender"),
        ("[[rule]]\nat_rcpt = 'yes'\nuser = '*'", "at_rcpt", "true or false"),
        ("[policy]\nwish_header = 'X Encrypt'", "wish_header", "the name of a header field"),
        ("[reinject]\nsmtp = 'localhost'", "smtp", "HOST:PORT"),
        ("[reinject]\nspool = 'spool'", "spool", "an absolute path"),
        ("[log]\nlevel = 'loud'", "level", "one of debug"),
        ("[log]\nformat = 'xml'", "format", "one of text, json"),
    ],
)
def test_wrong_value_is_named_with_its_line_and_what_it_must_be(text: str, key: str, expected: str) -> None:
    (fault,) = faults(text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(key))
    assert fault.startswith(f"smilla.toml:{line}: ")
    assert f"{key} is " in fault
    assert expected in fault


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.53@5353", "::1", "::1@53", "127.1.2.3"])
def test_nameserver_on_loopback_is_accepted(server: str) -> None:
    assert parse(f"[dns]\nnameservers = ['{server}']").dns.nameservers == (server,)


def test_line_is_that_of_the_right_section() -> None:
    (fault,) = faults("[log]\nlevel = 'info'\n[milter]\ntimeout_s = 60\n[dns]\ntimeout_s = 600\n")
    assert fault.startswith("smilla.toml:6: [dns] timeout_s")


@given(st.text(max_size=80))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        parse(text)
    except ConfigError as error:
        assert error.faults


def test_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "latin1.toml").write_bytes(b"# \xe4\n")
    for name, expected in [("missing.toml", "cannot be read"), ("latin1.toml", "not UTF-8"), (".", "cannot be read")]:
        with pytest.raises(ConfigError, match=expected):
            load(tmp_path / name)


@pytest.mark.parametrize("name", ["user", "socket_group"])
def test_name_that_no_system_knows_is_a_fault(name: str) -> None:
    with pytest.raises(ConfigError, match="which this machine does not know"):
        parse(f'[milter]\n{name} = "a\\u0000b"\n')


def test_environment_configures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for section, kind in [("", Config), *SECTIONS.items()]:
        for option in options_of(kind):
            for name in (option, f"{section}_{option}", f"SMILLA_{section}_{option}", f"smilla_{option}"):
                monkeypatch.setitem(os.environ, name.upper().replace("__", "_"), "1")
    assert parse("") == Config()


# --- showing -----------------------------------------------------------------------------------------------


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


USERS = st.sampled_from(["", "root"])


def values_of(field: dataclasses.Field[Any], kind: type[Any]) -> st.SearchStrategy[Any]:
    bounds = field.metadata
    if "choices" in bounds:
        return st.sampled_from([choice for choice in bounds["choices"] if choice != "validate"])
    if "minimum" in bounds:
        whole = isinstance(field.default, int)
        low, high = bounds["minimum"], bounds["maximum"]
        return st.integers(low, high) if whole else st.floats(low, high)
    if isinstance(field.default, bool):
        return st.booleans()
    if kind is Rule and isinstance(field.default, tuple):
        return (
            st.just(field.default)
            if field.name != "domain"
            else st.sampled_from([(), ("a.example", "*.bücher.example")])
        )
    if kind is Rule and field.name != "key":
        return st.sampled_from(["*", "<>", "*@example.org", '"a b"@*.bücher.example', '"\x7f\t\\"@x'])
    strategies = {
        "user": USERS,
        "key": st.sampled_from(["", "/etc/passwd"]),
        "socket_group": USERS,
        "probe": st.sampled_from([".", "example.org.", "xn--bcher-kva.example"]),
        "trust_anchor": TEXTS,
    }
    return strategies.get(field.name, st.just(field.default))


def section_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    built = st.builds(kind, **{name: values_of(field, kind) for name, field in options_of(kind).items()})
    return built.map(without_contradiction)


def without_contradiction(section: Any) -> Any:
    """The section less the keys that do not go together."""
    if isinstance(section, (PolicyOptions, Rule)):  # secure-hop needs a mode and a direction; see tests/bad_configs
        bound: dict[str, Any] = {name: "hold" for name in HOP_FAILURES if getattr(section, name) == "secure-hop"}
        section = dataclasses.replace(section, **bound)
    if isinstance(section, KeysOptions):
        return dataclasses.replace(section, aliases="")  # expanded needs [policy] mixed = "stage"
    if isinstance(section, PolicyOptions) and section.mixed != "reinject":
        return dataclasses.replace(section, one_fails="whole")
    if isinstance(section, Rule) and section.encrypt == "never":
        return Rule(**{name: getattr(section, name) for name in (*CONDITIONS, "encrypt")})
    if isinstance(section, Rule) and section.key:
        section = dataclasses.replace(section, no_key="", insecure="", bogus="")  # no source is asked
    if isinstance(section, Rule) and section.encrypt == "require":
        plain: dict[str, Any] = {name: "" for name in FAILURES if getattr(section, name) == "plain"}
        return dataclasses.replace(section, **plain)
    if isinstance(section, OpenPGPOptions) and section.engine == "sequoia":
        return dataclasses.replace(section, engine="gnupg")  # hidden recipients, in a rule perhaps, need gpg
    return section


SECTIONS_OF_ANY_KIND = {
    name: section_of(kind) for name, kind in SECTIONS.items() if kind not in (Rule, Circle, DecryptRule)
}
CIRCLES = [
    Circle("ours", ("*.example.org", "bücher.example"), "/etc/passwd", ("mail.example.org", ".example.org")),
    Circle("theirs", ("example.net",), "/etc/group"),
]
DECRYPTED = [
    DecryptRule("tickets@example.org", ("/a.p12", "/b.asc"), "/password"),
    DecryptRule("*@example.net", gnupg_home="/home", fingerprints=("0" * 40,)),
]
RULES = st.lists(section_of(Rule), max_size=3)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    sections = {name: draw(section) for name, section in SECTIONS_OF_ANY_KIND.items()}
    rules, circles = tuple(draw(RULES)), tuple(draw(st.lists(st.sampled_from(CIRCLES), unique=True)))
    decrypted = tuple(draw(st.lists(st.sampled_from(DECRYPTED), unique=True)))
    domains = draw(st.sampled_from([("example.org",), ("*.bücher.example", "b.example")]))
    found = Config(
        draw(st.booleans()), draw(st.sampled_from(["outbound", "inbound", "auto"])), domains, rule=rules, circle=circles
    )
    return dataclasses.replace(found, decrypt_rule=decrypted, **sections)


@given(configurations())
def test_what_is_shown_says_the_same(settings: Config) -> None:
    shown = config_text.show(settings)
    again = parse(shown)
    for name in ("unclear", "unusable_key"):
        if not getattr(settings.policy, name) and settings.mode != "auto":
            effective = {"outbound": "refuse", "inbound": "defer"}[settings.mode]
            policy = dataclasses.replace(settings.policy, **{name: effective})
            settings = dataclasses.replace(settings, policy=policy)
    assert again == settings
    assert config_text.show(again) == shown


def test_manual_names_every_option_with_its_default() -> None:
    manual = config_text.manual()
    kinds: list[type[Any]] = [Config, *SECTIONS.values()]
    for kind in kinds:
        for option, field in options_of(kind).items():
            assert f".It Cm {option} Li = " in manual
            assert field.metadata["help"]
