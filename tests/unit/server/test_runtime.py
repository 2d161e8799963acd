"""Which parts a configuration asks for."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from smilla.adapters import https
from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KEY_FAILURES, Circle, HopOptions, LDAPOptions, PolicyOptions, Rule
from smilla.errors import ConfigError, EngineMissing, FetchError
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import Metrics
from smilla.server import policyd
from smilla.server.runtime import KeyServer, PolicyServer, make_ports, needs_hops
from smilla.server.service import read_anew

CONFIG = Config()


@pytest.mark.parametrize("name", KEY_FAILURES)
def test_secure_hop_anywhere_asks_for_hops(name: str) -> None:
    wanted: dict[str, Any] = {name: "secure-hop"}
    assert needs_hops(replace(CONFIG, policy=replace(PolicyOptions(), **wanted)))
    assert needs_hops(replace(CONFIG, rule=(Rule(), replace(Rule(), **wanted))))


def test_circle_or_policy_server_asks_for_hops_and_nothing_else_does() -> None:
    assert needs_hops(replace(CONFIG, circle=(Circle("ours", ("example.org",), "/etc/ca.pem"),)))
    assert needs_hops(replace(CONFIG, hop=HopOptions(policy_server=True)))
    assert not needs_hops(replace(CONFIG, hop=HopOptions(attributes=True)))
    assert not needs_hops(CONFIG)


def test_ports_have_hops_only_where_somebody_asks() -> None:
    config = replace(CONFIG, keys=replace(CONFIG.keys, sources=("smimea",)))
    assert make_ports(config).hops is None
    assert make_ports(replace(config, hop=HopOptions(policy_server=True))).hops is not None


def test_ports_have_the_network_sources_that_are_named_and_no_others() -> None:
    def names(*sources: str) -> set[str]:
        config = replace(CONFIG, keys=replace(CONFIG.keys, sources=sources), ldap=LDAPOptions(url="ldaps://localhost"))
        return set(make_ports(config).network)

    assert names("smimea", "openpgpkey") == set()
    assert names("wkd") == {"wkd"}
    assert names("smimea", "ldap", "wkd") == {"wkd", "ldap"}


def test_without_its_library_the_source_ldap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ldap3", None)
    monkeypatch.delitem(sys.modules, "smilla.adapters.ldap", raising=False)
    config = replace(CONFIG, keys=replace(CONFIG.keys, sources=("ldap",)), ldap=LDAPOptions(url="ldaps://localhost"))
    with pytest.raises(EngineMissing, match=r"pip install 'smilla\[ldap\]'"):
        make_ports(config)


def test_authorities_of_the_directory_that_cannot_be_read_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no PEM")
    options = LDAPOptions(url="ldaps://localhost", ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        make_ports(replace(CONFIG, keys=replace(CONFIG.keys, sources=("ldap",)), ldap=options))


def test_authorities_of_web_servers_that_cannot_be_read_are_a_fault(tmp_path: Path) -> None:
    """Else every policy and key would be missing for a reason that their owners are asked to mend."""
    path = tmp_path / "ca.pem"
    path.write_text("no PEM")
    wkd = replace(CONFIG.keys, sources=("wkd",), wkd_ca_file=str(path))
    hop = replace(CONFIG.hop, ca_file=str(path), policy_server=True)
    for config, option in (
        (replace(CONFIG, keys=wkd), "keys. wkd_ca_file"),
        (replace(CONFIG, hop=hop), "hop. ca_file"),
    ):
        with pytest.raises(ConfigError, match=rf"\[{option}: .*ca\.pem: cannot be used"):
            make_ports(config)
    make_ports(replace(CONFIG, hop=replace(hop, policy_server=False)))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError(["a.toml:1: x", "a.toml:2: y"]), ["a.toml:1: x", "a.toml:2: y"]),
        (OSError("no file"), ["no file"]),
        (ValueError("somebody's words"), ["an internal error (ValueError); the line before this one says where"]),
    ],
)
def test_whatever_a_reload_raises_is_a_fault_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: list[str]
) -> None:
    found: list[str] = []
    monkeypatch.setattr("smilla.log.reload_failed", found.append)
    assert read_anew(Mock(side_effect=error)) is None
    assert found == told
    assert read_anew(lambda: 7) == 7


@pytest.mark.parametrize("error", [ConfigError(["x"]), ValueError("x"), RecursionError()])
def test_policy_server_goes_on_with_its_configuration_whatever_a_reload_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (tmp_path / "smilla.toml").write_text("")
    monkeypatch.setattr(policyd, "_current", Mock(side_effect=error))
    assert policyd._reloaded(tmp_path / "smilla.toml") is None


@pytest.mark.parametrize(
    ("name", "formats", "needed"),
    [("a.crt", (), False), ("a.gpg", (), True), ("a", (), True), ("a.gpg", ("smime",), False)],
)
def test_openpgp_engine_is_made_where_the_key_of_a_rule_may_need_it(
    name: str, formats: tuple[str, ...], needed: bool
) -> None:
    rule = replace(Rule(), key=f"/etc/smilla/{name}", formats=formats)
    config = replace(CONFIG, keys=replace(CONFIG.keys, sources=("smimea",)), rule=(rule,))
    assert (make_ports(config).openpgp.name != "none") is needed


def test_search_whose_time_is_over_asks_no_further_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not three addresses behind each of two redirections, one after the other."""
    given: list[float] = []

    def request(client: https.Client, *_: Any, at: str) -> https.Response:
        given.append(client._timeout_s)
        clock[0] += client._timeout_s
        raise FetchError(f"{at} is silent", temporary=True)

    clock = [1000.0]
    monkeypatch.setattr(https.Client, "request", request)
    monkeypatch.setattr("smilla.server.runtime.time.monotonic", lambda: clock[0])
    addresses = [bytes((192, 0, 2, number)) for number in range(3)]
    answer = DNSAnswer("", "A", DNSSECStatus.INSECURE, tuple(addresses))
    resolver = Mock(ask=lambda *_: Mock(result=lambda _: answer))
    found = KeyServer("", resolver).find(parse("pia@example.org"), 1008.0)
    assert found.is_unreachable
    assert given == [6.0, 2.0]


def test_each_attempt_to_fetch_a_policy_is_counted_by_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []

    class Counting(Metrics):
        def fetch(self, source: str, result: str, seconds: float) -> None:
            told.append((source, result))

    answers = iter([https.Response(200, {}, b""), https.Response(404, {}, b""), None])

    def request(*_: Any, **__: Any) -> https.Response:
        if (answer := next(answers)) is None:
            raise FetchError("is silent", temporary=True)
        return answer

    monkeypatch.setattr(https.Client, "request", request)
    server = PolicyServer("", metrics=Counting())
    assert [server.fetch("mta-sts.example.org", "192.0.2.1").status for _ in range(2)] == [200, 404]
    with pytest.raises(FetchError):
        server.fetch("mta-sts.example.org", "192.0.2.1")
    assert told == [("mta-sts", "found"), ("mta-sts", "unclear"), ("mta-sts", "unreachable")]
