"""The files with which an administrator runs smilla as a service are sound, and the unit is confined."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.programs import program_environment, require, require_nothing_missing, unpacked_folder

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
UNIT = CONTRIB / "systemd" / "smilla.service"
MOST_EXPOSED = 15  # tenths: 1.5 of 10


def _values(name: str) -> list[str]:
    lines = UNIT.read_text("utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


@pytest.mark.parametrize(
    "name",
    [
        "smilla.service",
        "smilla-decrypt.service",
        "smilla-policyd.service",
        "smilla-relay.service",
        "smilla-expiring.service",
        "smilla-watch.service",
        "smilla-watch-mx.service",
    ],
)
def test_systemd_rates_the_exposure_of_the_unit_at_most_at_one_and_a_half(name: str) -> None:
    require("systemd-analyze")
    command: list[str | Path] = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={MOST_EXPOSED}",
        "--no-pager",
        UNIT.with_name(name),
    ]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_a_reload_checks_the_configuration_first_and_fails_where_it_is_faulty() -> None:
    reload = _values("ExecReload")
    assert reload[0] == "/usr/bin/env smilla config check --config /etc/smilla/smilla.toml"
    assert reload[-1] == "/bin/kill -HUP $MAINPID"


def test_a_faulty_configuration_ends_the_filter_itself_because_systemd_looks_at_no_other_exit_code() -> None:
    assert _values("RestartPreventExitStatus") == ["78"]
    assert [value for value in _values("ExecStartPre") if not value.startswith("-")] == []


def test_nothing_the_unit_starts_is_given_more_rights_than_the_filter() -> None:
    for value in _values("ExecStart") + _values("ExecStartPre") + _values("ExecReload"):
        assert value.lstrip("-@:").startswith("/"), value


def test_a_process_that_memory_runs_out_for_takes_no_other_with_it() -> None:
    """systemd.service(5): the default, stop, would end all workers because the status page was killed."""
    assert _values("OOMPolicy") == ["continue"]


@pytest.mark.parametrize("name", ["usr.lib.smilla", "usr.lib.smilla-decrypt"])
def test_apparmor_can_read_the_profile(name: str) -> None:
    parser, base = _apparmor()
    command: list[str | Path] = [parser, "-QK", "--base", base, CONTRIB / "apparmor" / name]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=program_environment(Path(parser)))
    assert done.returncode == 0, done.stderr


def test_who_has_the_private_keys_has_no_network_and_nothing_of_the_filter() -> None:
    profile = (CONTRIB / "apparmor" / "usr.lib.smilla-decrypt").read_text("utf-8")
    rules = [line.strip() for line in profile.splitlines() if not line.strip().startswith("#")]
    assert [rule for rule in rules if re.search(r"network (?!unix)", rule) and not rule.startswith("deny ")] == []
    assert [rule for rule in rules if "abstractions/nameservice" in rule] == []  # it allows inet
    assert [rule for rule in rules if re.search(r"/smilla/\{,\*\*\} \S*w", rule) and not rule.startswith("deny ")] == []
    unit = UNIT.with_name("smilla-decrypt.service").read_text("utf-8")
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"} <= set(unit.splitlines())
    programs = set(re.findall(r"/usr/bin/(\S+)", " ".join(re.findall(r"^ExecPaths=(.*)$", unit, re.M))))
    assert programs == {"env", "python3", "gpg", "gpg-agent"}


def _apparmor() -> tuple[Path, Path]:
    for root in (unpacked_folder(), Path("/")):
        for folder in ("sbin", "usr/sbin"):
            if (root / folder / "apparmor_parser").exists():
                return root / folder / "apparmor_parser", root / "etc/apparmor.d"
    require_nothing_missing(["apparmor"])
    raise AssertionError("not reached")


SCRIPTS = [CONTRIB / "openrc" / "smilla", *sorted((CONTRIB / "debian").glob("smilla.p*"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_can_read_what_it_runs(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)


def test_watch_looks_at_keys_and_at_mail_servers_each_with_an_outcome_of_its_own() -> None:
    keys, servers = (
        (CONTRIB / "systemd" / f"{name}.service").read_text("utf-8").splitlines()
        for name in ("smilla-watch", "smilla-watch-mx")
    )
    assert "Wants=smilla-watch-mx.service" in keys
    begins = ("Exec", "Description=", "Wants=", "#")
    assert [line for line in keys if not line.startswith(begins)] == [
        line for line in servers if not line.startswith(begins)
    ]


@pytest.mark.parametrize(
    ("config", "watched", "expiring"),
    [
        ("", False, False),
        ('[keys]\ndirectory = "/etc"\n', True, True),
        ('[[rule]]\nrecipient = "*"\nkey = "/etc/passwd"\n', False, True),
        ("nonsense = 1\n", True, True),  # the command itself says what is wrong
    ],
)
def test_timers_look_at_keys_where_there_are_any(tmp_path: Path, config: str, watched: bool, expiring: bool) -> None:
    (tmp_path / "smilla.toml").write_text(config)
    for name, wanted in (("smilla-watch", watched), ("smilla-expiring", expiring)):
        assert _goes_on(name, tmp_path / "smilla.toml") is wanted, name


@pytest.mark.parametrize(
    ("domains", "named"),
    [
        ("[]", False),
        ('["*.a.test"]', False),
        ('["*.a.test", "?.b.test", "[ab].test"]', False),
        ('["a.test"]', True),
        ('["*.a.test", "b.test"]', True),
        ('["b.test", "*.a.test", "*.c.test"]', True),
        ('["bücher.test"]', True),
        ("7", True),
    ],
)
def test_timer_looks_at_mail_servers_where_a_domain_is_named(tmp_path: Path, domains: str, named: bool) -> None:
    (tmp_path / "smilla.toml").write_text(f"local_domains = {domains}\n", "utf-8")
    assert _goes_on("smilla-watch-mx", tmp_path / "smilla.toml") is named


def _goes_on(name: str, config: Path) -> bool:
    """Does the unit's condition hold with this configuration?"""
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    lines = (CONTRIB / "systemd" / f"{name}.service").read_text("utf-8").splitlines()
    (line,) = (line.partition("=")[2] for line in lines if line.startswith("ExecCondition="))
    command = shlex.split(line.replace("/etc/smilla/smilla.toml", str(config)))
    return subprocess.run(command, env=path, check=False, capture_output=True).returncode == 0
