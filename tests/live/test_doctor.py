"""smilla config check --probe names the cause: the mistakes of a new user, each made beside a Postfix, an unbound and a
smilla that run.

smtpd "out" -> smilla (as nobody, [policy] mixed = "reinject") -> smtpd "plain"
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.config import parse
from smilla.doctor import sendmail_check
from tests.lab.dns import DNSLab
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import free_port
from tests.lab.programs import REPOSITORY, find_program, program_environment, require_servers
from tests.lab.sendmail import Sendmail
from tests.lab.smilla import Settings, Smilla, to_toml
from tests.live.conftest import cannot
from tests.live.examples import beside_postfix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.conftest import Keys

pytestmark = pytest.mark.live
OLD = "old.test"  # its signatures have ended


@dataclass
class House:
    """All that runs, and where the keys are."""

    place: Path
    dns: DNSLab
    smilla: Smilla
    postfix: Postfix


@pytest.fixture(scope="module")
def house(folder: Path, keys: Keys) -> Iterator[House]:
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="doctor-", dir=folder))
    place.chmod(0o755)
    (place / "postfix").mkdir()
    (place / "keys").mkdir(mode=0o755)
    (place / "keys/alice@r.test.der").write_bytes(keys.alice.raw_certificate)
    dns = DNSLab(place / "dns")
    dns.with_plain_resolver = True
    old = dns.zone(OLD)
    old.signed_from_s, old.signed_to_s = -7200, -3600
    plain, out = Listener(options={"smtpd_authorized_xforward_hosts": "127.0.0.0/8"}), Listener()
    settings: Settings = {
        "keys": {"sources": ["directory", "smimea"], "directory": str(place / "keys")},
        "reinject": {"smtp": f"127.0.0.1:{plain.port}", "spool": str(place / "spool")},
        "milter": {"mta": "postfix"},
    }
    try:
        with dns, Smilla(place / "smilla", dns.resolver, settings) as smilla:
            out.milters = [smilla.milter]
            with Postfix(place / "postfix", free_port(), [out, plain]) as postfix:
                yield House(place, dns, smilla, postfix)
    finally:
        shutil.rmtree(place)


class Patient:
    """Copies of the files of the house for one test to spoil, and the doctor."""

    def __init__(self, house: House, place: Path) -> None:
        self.house = house
        self.etc, self.config = place / "etc", place / "smilla.toml"
        shutil.copytree(house.postfix.folder / "etc", self.etc)
        shutil.copy(house.smilla.config, self.config)
        self.environment = beside_postfix()

    def change(self, file: Path, pattern: str, other: str) -> None:
        text, count = re.subn(pattern, other, file.read_text(), flags=re.MULTILINE)
        assert count, file.read_text()
        file.write_text(text)

    def check(self, *options: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "smilla", "config", "check", "--probe", "--config", str(self.config)]
        argv += ["--postfix-config", str(self.etc), *options]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)

    def findings(self, code: int = 1) -> list[dict[str, Any]]:
        done = self.check("--json")
        assert done.returncode == code, done.stdout + done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        return found

    def first(self) -> dict[str, Any]:
        """The first error."""
        first = self.findings()[0]
        assert first["severity"] == "error"
        assert first["mend"]
        return first


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    place = Path(tempfile.mkdtemp(prefix="patient-", dir=house.place))
    place.chmod(0o755)
    yield Patient(house, place)
    shutil.rmtree(place)


def test_where_all_is_well_there_is_no_error(patient: Patient) -> None:
    done = patient.check()
    assert (done.returncode, "error:" in done.stderr) == (0, False), done.stderr
    for told in (
        f"socket {patient.house.smilla.milter}: a filter listens",
        f"{patient.house.dns.resolver}: validates (test.)",
        "rights: nobody may read and write what the filter needs",
        "re-injection listener",
    ):
        assert told in done.stdout


# --- Postfix


def test_a_socket_with_another_name_is_named_with_the_right_one(patient: Patient) -> None:
    ours = patient.house.smilla.socket
    for wrong in (f"unix:{ours}x", f"unix:/nonexistent/{ours.name}", "inet:127.0.0.1:1"):
        shutil.copy(patient.house.postfix.folder / "etc/master.cf", patient.etc / "master.cf")
        patient.change(patient.etc / "master.cf", f"unix:{ours}", wrong)
        first = patient.first()
        assert (first["kind"], wrong in first["text"]) == ("other-socket", True)
        assert first["mend"] == f"smtpd_milters = unix:{ours}"


def test_a_chrooted_smtpd_that_cannot_reach_the_socket_is_told_where_to_put_it(patient: Patient) -> None:
    patient.change(patient.etc / "master.cf", r"^(127\S+ inet n +- +)n", r"\1y")
    first = patient.first()
    assert first["kind"] == "chroot"
    assert f"is chrooted to {patient.house.postfix.queue}" in first["text"]
    assert f'[milter] socket = "unix:{patient.house.postfix.queue}/smilla/smilla.sock"' in first["mend"]
    assert first["mend"].endswith("smtpd_milters = unix:smilla/smilla.sock")


def test_accept_is_named_with_tempfail(patient: Patient) -> None:
    patient.change(patient.etc / "main.cf", "^milter_default_action = .*", "milter_default_action = accept")
    first = patient.first()
    assert (first["kind"], first["mend"]) == ("default-action", "milter_default_action = tempfail")
    assert "mail passes in plaintext" in first["text"]


@pytest.mark.parametrize("file", ["main.cf", "master.cf"])
def test_accept_in_braces_is_mended_by_the_line_that_keeps_the_braces(patient: Patient, file: str) -> None:
    ours, port = patient.house.smilla.milter, patient.house.postfix.listeners[0].port
    patient.change(patient.etc / "main.cf", "^config_directory = .*", f"config_directory = {patient.etc}")
    value = f"{{ {ours}, default_action=accept, connect_timeout=9s }}"
    if file == "main.cf":
        patient.change(patient.etc / "master.cf", rf"^ +-o {{ smtpd_milters = {ours} .*\n", "")
        patient.change(patient.etc / file, r"\Z", f"\nsmtpd_milters = {value}\n")
        line = f"-e 'smtpd_milters = {value}'"
    else:
        patient.change(patient.etc / file, ours, value)
        packed = f"{{{ours},default_action=accept,connect_timeout=9s}}"  # postconf -P refuses blanks
        line = f"-P '127.0.0.1:{port}/inet/smtpd_milters={packed}'"
    first = patient.first()
    assert "mail passes in plaintext" in first["text"]
    assert first["mend"] == f"postconf -c {patient.etc} {line.replace('accept', 'tempfail')}"
    subprocess.run(["sh", "-c", first["mend"]], env=patient.environment, check=True)
    assert "default_action=tempfail" in (patient.etc / file).read_text()
    assert [each for each in patient.findings(0) if each["kind"] == "default-action"] == []


def test_a_socket_that_postfix_may_not_reach_is_named(patient: Patient) -> None:
    folder = patient.house.smilla.folder
    folder.chmod(0o700)
    try:
        first = patient.first()
    finally:
        folder.chmod(0o755)
    assert first["kind"] == "socket-denied"
    assert f"because {folder} keeps it out" in first["text"]


def test_a_filter_that_nobody_asks_is_an_error_unless_it_observes(patient: Patient) -> None:
    patient.change(patient.etc / "master.cf", f"unix:{patient.house.smilla.socket}", "")
    first = patient.first()
    assert (first["kind"], first["mend"]) == ("not-attached", f"smtpd_milters = {patient.house.smilla.milter}")
    assert "leaves in plaintext" in first["why"]
    patient.config.write_text("observe = true\n" + patient.config.read_text())
    (told,) = [each for each in patient.findings(0) if each["kind"] == "not-attached"]
    assert told["severity"] == "warning"


def test_a_stage_that_nobody_has_begun_to_set_up_is_no_failure(patient: Patient) -> None:
    port = patient.house.postfix.listeners[1].port
    patient.change(patient.config, "^mixed = .*", "")
    patient.change(patient.config, f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    (told,) = [each for each in patient.findings(0) if each["kind"] == "stage-way"]
    assert (told["severity"], told["text"]) == ("warning", "has none of the lines for the stage")
    patient.change(patient.config, "^smtp = .*", f'smtp = "127.0.0.1:{port}"')  # there is a listener for its copies
    assert patient.first()["kind"] == "stage-way"


# --- Sendmail, by the file that its own m4 sources make


@pytest.mark.parametrize(
    ("pattern", "other", "told"),
    [
        ("", "", [("default-action", "")]),
        ("F=T, ", "F=, ", [("default-action", "error")]),
        ("F=T, ", "F=R, ", [("default-action", "warning")]),
        ("smilla.sock, F", "other.sock, F", [("other-socket", "error")]),
        ("INPUT_MAIL_FILTER", "MAIL_FILTER", [("default-action", ""), ("not-attached", "error")]),
        ("E:300s", "E:3s", [("default-action", ""), ("timeout", "warning")]),
        ("INPUT_MAIL_FILTER.*", "dnl", [("not-attached", "error")]),
    ],
)
def test_sendmails_line_is_judged(tmp_path: Path, pattern: str, other: str, told: list[tuple[str, str]]) -> None:
    example = (REPOSITORY / "contrib/sendmail/smilla.m4").read_text()
    line = next(line for line in example.splitlines() if line.startswith("INPUT_MAIL_FILTER"))
    require_servers("m4")
    Sendmail(tmp_path, free_port(), [Listener()], [re.sub(pattern, other, line, count=1)])._configure()
    socket = re.search("S=([^,]*)", line)
    assert socket is not None
    config = parse(f'[milter]\nsocket = "{socket[1]}"\n')
    found = sendmail_check.problems(config, tmp_path / "sendmail.cf")
    assert [(each.kind.value, each.severity) for each in found] == told


# --- the resolver


def test_a_resolver_that_is_down_is_named(patient: Patient) -> None:
    patient.change(patient.config, f"@{patient.house.dns.port}", f"@{free_port()}")
    first = patient.first()
    assert first["kind"] == "resolver-down"
    assert "systemctl start unbound" in first["mend"]


def test_a_resolver_that_does_not_validate_is_named(patient: Patient) -> None:
    patient.change(patient.config, patient.house.dns.resolver, patient.house.dns.plain_resolver)
    first = patient.first()
    assert first["kind"] == "resolver-not-validating"
    assert "no AD bit" in first["text"]
    assert "auto-trust-anchor-file" in first["mend"]


def test_a_clock_outside_the_time_of_the_signature_is_the_first_cause(patient: Patient) -> None:
    patient.change(patient.config, 'probe = "test."', f'probe = "{OLD}."')
    kinds = [each["kind"] for each in patient.findings() if each["severity"] == "error"]
    assert kinds == ["clock", "resolver-not-validating"]


def _shows(patient: Patient, tmp_path: Path, configuration: Path) -> None:
    """The real unbound-checkconf, with this file in place of the usual one."""
    real = find_program("unbound-checkconf")
    libraries = program_environment(real).get("LD_LIBRARY_PATH", "")
    program = tmp_path / "unbound-checkconf"
    program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {real} "$@" {configuration}\n')
    program.chmod(0o755)
    patient.environment["PATH"] = f"{tmp_path}:{patient.environment['PATH']}"


def test_an_unbound_with_room_for_too_few_connections_is_told_of(patient: Patient, tmp_path: Path) -> None:
    _shows(patient, tmp_path, patient.house.dns.folder / "unbound.conf")
    for workers, told in ((16, []), (17, ["hint"])):  # of six connections each; the laboratory has room for 100
        patient.change(patient.config, "^workers = .*", f"workers = {workers}")
        found = [each for each in patient.findings(0) if each["kind"] == "resolver-tcp"]
        assert [each["severity"] for each in found] == told
    assert found[0]["mend"] == "server: incoming-num-tcp: 102, in unbound.conf"


@pytest.mark.parametrize("at", ["port", "interface"])
def test_an_unbound_that_calls_bogus_answers_unsigned_is_an_error_though_the_probe_passes(
    patient: Patient, tmp_path: Path, at: str
) -> None:
    lines = (patient.house.dns.folder / "unbound.conf").read_text()
    lines = lines.replace("server:\n", "server:\n  val-permissive-mode: yes\n", 1)
    if at == "interface":
        port = f"  port: {patient.house.dns.port}\n"
        assert port in lines
        lines = lines.replace(port, f"  interface: 127.0.0.1@{patient.house.dns.port}\n", 1)
    (tmp_path / "unbound.conf").write_text(lines)
    _shows(patient, tmp_path, tmp_path / "unbound.conf")
    first = patient.first()
    assert (first["severity"], first["kind"], first["subject"]) == ("error", "resolver-not-validating", "unbound")
    assert "val-permissive-mode: no" in first["mend"]
    assert "leaves in plaintext" in first["why"]


def test_an_unbound_on_another_port_may_be_permissive(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "unbound.conf").write_text(f"server:\n  port: {free_port()}\n  val-permissive-mode: yes\n")
    _shows(patient, tmp_path, tmp_path / "unbound.conf")
    assert not [each for each in patient.findings(0) if each["kind"] == "resolver-not-validating"]


# --- rights


def test_a_configuration_that_only_root_may_read_is_named(patient: Patient) -> None:
    patient.config.chmod(0o600)
    first = patient.first()
    assert (first["kind"], first["subject"]) == ("rights", f"configuration {patient.config}")
    assert "nobody may not read" in first["text"]
    assert f"{patient.config} (root:root 0600)" in first["text"]
    assert first["mend"] == f"chgrp nogroup {patient.config} && chmod g+r {patient.config}"


@pytest.mark.parametrize("what", ["folder", "file"])
def test_keys_that_smilla_may_not_read_are_named(patient: Patient, what: str) -> None:
    folder = patient.house.place / "keys"
    path = folder if what == "folder" else folder / "alice@r.test.der"
    before = path.stat().st_mode
    path.chmod(0o700 if what == "folder" else 0o600)
    try:
        first = patient.first()
    finally:
        path.chmod(before & 0o777)
    assert first["kind"] == "rights"
    assert f"{path} (root:root 0" in first["text"]
    assert first["mend"] == f"chgrp nogroup {path} && chmod g+r{'x' if what == 'folder' else ''} {path}"


def test_a_folder_of_the_journal_that_is_roots_is_named(patient: Patient) -> None:
    spool = patient.house.place / "patient-spool"
    spool.mkdir(mode=0o700)
    try:
        patient.change(patient.config, "^spool = .*", f'spool = "{spool}"')
        first = patient.first()
    finally:
        spool.rmdir()
    assert (first["kind"], first["mend"]) == ("rights", f"chown -R nobody {spool}")


def test_a_folder_on_the_way_is_named_once(patient: Patient) -> None:
    inner = patient.config.parent / "shut" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    shutil.move(patient.config, inner)
    patient.config = inner / "smilla.toml"
    shutil.copytree(patient.house.place / "keys", inner / "keys")
    patient.change(patient.config, "^directory = .*", f'directory = "{inner}/keys"')
    errors = [each for each in patient.findings() if each["severity"] == "error"]
    assert [each["mend"] for each in errors] == [f"chmod o+x {inner.parent}"]


# --- the configuration, the engine, the port


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mode = outbound", 'a text stands in quotes: write mode = "outbound"'),
        ("observe = True", "write observe = true"),
        ('[milter]\nmode = "outbound"', "it belongs at the top, before the first [table]"),
    ],
)
def test_a_slip_in_the_configuration_is_named(patient: Patient, line: str, told: str) -> None:
    patient.config.write_text(f"{line}\n")
    (fault,) = patient.findings(78)
    assert fault["kind"] == "configuration"
    assert told in fault["text"]
    done = patient.check()
    assert (done.returncode, told in done.stderr) == (78, True)


def test_a_missing_engine_is_named(patient: Patient) -> None:
    patient.config.write_text(to_toml({"openpgp": {"engine": "gnupg"}}))
    patient.environment["PATH"] = str(find_program("postconf").parent)
    (fault,) = patient.findings(78)
    assert (fault["kind"], "install GnuPG" in fault["text"]) == ("engine", True)


def test_a_port_that_postfix_has_is_no_filters(patient: Patient) -> None:
    port = patient.house.postfix.listeners[1].port
    patient.change(patient.config, "^socket = .*smilla.sock.*", f'socket = "inet:{port}@127.0.0.1"')
    first = patient.first()
    assert (first["kind"], first["subject"]) == ("socket-taken", f"socket inet:{port}@127.0.0.1")
    assert "it says '220 mta.test ESMTP" in first["text"]
