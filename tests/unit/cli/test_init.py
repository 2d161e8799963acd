"""smilla init: what it makes of what it finds, and what it does not touch."""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from pathlib import Path

import pytest

from smilla import config
from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.postfix import Service, Settings
from smilla.adapters.postfix_edit import Change, shell
from smilla.cli import init_look, init_next, init_plan, init_postfix, init_sendmail
from smilla.config import Config
from smilla.doctor.finding import Kind, error
from smilla.errors import EngineMissing
from tests.lab.postfix import example_options
from tests.unit.cli.conftest import CommandLine

ROOT = Path(__file__).resolve().parents[3]
QUEUE = "/var/spool/postfix"
SERVICES = (
    Service("smtp", "inet", "smtpd", "y", {}),
    Service("pickup", "unix", "pickup", "y", {"content_filter": "x:y"}),
    Service("cleanup", "unix", "cleanup", "y", {}),
)
SOCKET = f'[milter]\nsocket = "unix:{QUEUE}/smilla/smilla.sock"\n'


def lines(
    written: dict[str, str] | None = None,
    *more: Service,
    text: str = '[policy]\nmixed = "stage"\n',
    main: dict[str, str] | None = None,
) -> init_postfix.Lines:
    known = {"queue_directory": QUEUE, "milter_default_action": "tempfail"} | (main or {})
    settings = Settings(known, (*SERVICES, *more))
    return init_postfix.Lines(config.parse(SOCKET + text), settings, written or {}, "/etc/postfix", "y")


def values(found: init_postfix.Lines) -> dict[str, str]:
    return {change.name: change.value for change in found.changes()}


# --- Postfix


BOUND = '[policy]\nmixed = "stage"\nno_key = "secure-hop"\n'


def test_tables_are_those_of_contrib() -> None:
    for change in lines(text=BOUND).changes():
        if change.kind == "table":
            example = (ROOT / "contrib/postfix" / Path(change.name).name).read_text()
            assert _rules(change.value) == _rules(example) != []


def _rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("name", "kind"), [("10025", "inet"), ("smilla", "unix"), ("smilla-requeue", "unix")])
def test_services_have_the_options_of_contrib(name: str, kind: str) -> None:
    example = example_options("contrib/postfix/master.cf.example", name, kind)
    ours = {"127.0.0.1:10025": "10025"}.get(name, name)
    found = {
        change.name.rpartition("/")[2]: change.value
        for change in lines().changes()
        if change.kind == "option" and change.name.split("/")[0].endswith(ours)
    }
    stage = {"receive_override_options": "no_address_mappings,no_header_body_checks", "content_filter": ""}
    assert found == example | (stage if kind == "inet" else {})


@pytest.mark.parametrize(("name", "kind"), [("10027", "inet"), ("smilla-secure", "unix")])
def test_services_for_a_verified_hop_have_the_options_of_contrib(name: str, kind: str) -> None:
    example = example_options("contrib/postfix/master.cf.example", name, kind)
    found = {
        change.name.rpartition("/")[2]: change.value
        for change in lines(text=BOUND).changes()
        if change.kind == "option" and change.name.split("/")[0].endswith(name)
    }
    assert found == example
    assert not any("10027" in change.name or "secure" in change.name for change in lines().changes())


@pytest.mark.parametrize(("main", "expected"), [({}, None), ({"tls_required_enable": "yes"}, "no")])
def test_message_may_not_say_that_it_needs_no_tls(main: dict[str, str], expected: str | None) -> None:
    assert values(lines(text=BOUND, main=main)).get("tls_required_enable") == expected


def test_listeners_of_both_kinds_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_postfix, "can_connect", lambda _: False)
    taken = Service("127.0.0.1:10027", "inet", "smtpd", "y", {})
    first = init_postfix.listener_for([taken])
    second = init_postfix.secure_listener_for([taken])
    assert first != second
    assert second != "127.0.0.1:10027"
    ours = Service("127.0.0.1:10031", "inet", "smtpd", "y", {"syslog_name": "postfix/bound"})
    assert init_postfix.secure_listener_for([taken, ours]) == "127.0.0.1:10031"


def test_a_milter_is_added_behind_those_that_are_there() -> None:
    found = lines({"smtpd_milters": "inet:127.0.0.1:8891, { unix:x, default_action=accept }"})
    last = found.changes()[-1]
    assert last.value == "inet:127.0.0.1:8891, { unix:x, default_action=accept }, unix:smilla/smilla.sock"
    assert last.words_back == ("-e", "smtpd_milters = inet:127.0.0.1:8891, { unix:x, default_action=accept }")
    assert "inet:127.0.0.1:8891 and unix:x" in found.warnings[0]


@pytest.mark.parametrize("who", Who)
@pytest.mark.parametrize("name", ["smilla/smila.sock", "smilla/inbound.sock", "smilla-decrypt/decrypt.sock"])
def test_a_name_like_ours_stays_whoever_listens_there(monkeypatch: pytest.MonkeyPatch, name: str, who: Who) -> None:
    """It may be a slip, or another filter of smilla's that is stopped at this moment: without it, mail would leave or
    lie in plaintext.  The check names it."""
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(who))
    milters = f"inet:127.0.0.1:8891, unix:{name}"
    made = lines({"smtpd_milters": milters}, main={"smtpd_milters": milters})
    assert made.changes()[-1].value == f"{milters}, unix:smilla/smilla.sock"


def test_mail_comes_to_the_filter_last() -> None:
    assert [change.name for change in lines().changes()][-1] == "smtpd_milters"


@pytest.mark.parametrize("written", ["unix:smilla/smilla.sock", "a, { unix:smilla/smilla.sock, connect_timeout=3s }"])
def test_a_milter_that_is_there_is_not_added_again(written: str) -> None:
    assert "smtpd_milters" not in values(lines({"smtpd_milters": written}))


def test_a_milter_behind_a_name_is_not_added_again() -> None:
    main = {"smtpd_milters": "a, unix:smilla/smilla.sock"}
    assert "smtpd_milters" not in values(lines({"smtpd_milters": "a, $smilla_milter"}, main=main))


@pytest.mark.parametrize(
    ("action", "ours"),
    [
        ("tempfail", "unix:smilla/smilla.sock"),
        ("shutdown", "unix:smilla/smilla.sock"),
        ("accept", "{ unix:smilla/smilla.sock, default_action=tempfail }"),
        ("quarantine", "{ unix:smilla/smilla.sock, default_action=tempfail }"),
    ],
)
def test_no_mail_passes_while_the_filter_is_away_and_other_milters_keep_their_action(action: str, ours: str) -> None:
    found = values(lines(main={"milter_default_action": action}))
    assert found["smtpd_milters"] == ours
    assert "milter_default_action" not in found


def test_tables_of_the_administrator_stay_and_keep_what_they_see() -> None:
    found = values(lines({"header_checks": "pcre:/etc/postfix/own"}))
    assert found["header_checks"] == "regexp:/etc/postfix/smilla_refuse, pcre:/etc/postfix/own"
    assert found["nested_header_checks"] == found["mime_header_checks"] == "pcre:/etc/postfix/own"
    requeue = "smilla-requeue/unix/"
    assert found[f"{requeue}header_checks"] == "regexp:/etc/postfix/smilla_requeue,pcre:/etc/postfix/own"
    assert found[f"{requeue}nested_header_checks"] == "pcre:/etc/postfix/own"
    assert "nested_header_checks" not in values(lines({"nested_header_checks": "x"}))


def test_nothing_is_changed_where_all_lines_are_there() -> None:
    first = lines()
    main = {change.name: change.value for change in first.changes() if change.kind == "main"}
    added = []
    for change in first.changes():
        if change.kind == "service":
            name, kind = change.name.split("/")
            program = change.value.split()[-1]
            prefix = f"{change.name}/"
            options = {c.name.removeprefix(prefix): c.value for c in first.changes() if c.name.startswith(prefix)}
            added.append(Service(name, kind, program, "y", options))
    services = [service for service in SERVICES if service.name != "pickup"]
    pickup = Service("pickup", "unix", "pickup", "y", {"cleanup_service_name": "smilla-requeue"})
    known = Settings({"queue_directory": QUEUE, "milter_default_action": "tempfail"}, (*services, pickup, *added))
    again = init_postfix.Lines(first.config, known, main, "/etc/postfix", "y")
    assert [change for change in again.changes() if change.kind != "table"] == []
    assert init_postfix.listener_for(known.services) == "127.0.0.1:10025"


def test_pickup_with_a_cleanup_of_its_own_is_not_changed() -> None:
    own = Service("pickup", "unix", "pickup", "y", {"cleanup_service_name": "pre-cleanup"})
    found = lines()
    found.settings = Settings(found.settings.main, (SERVICES[0], own, SERVICES[2]))
    assert not any(name.startswith(("pickup/", "smilla-requeue/")) for name in values(found))
    assert "cleanup_service_name = pre-cleanup" in found.warnings[0]


def test_a_service_with_milters_of_its_own_is_told_of_and_not_changed() -> None:
    found = lines(None, Service("submission", "inet", "smtpd", "y", {"smtpd_milters": "inet:127.0.0.1:1"}))
    assert not any(name.startswith("submission") for name in values(found))
    assert any("submission in master.cf has its own smtpd_milters" in text for text in found.warnings)


@pytest.mark.parametrize(("mixed", "expected"), [("reinject", {"smtpd", "main"}), ("defer", {"main"})])
def test_without_the_stage_only_what_is_needed_is_added(mixed: str, expected: set[str]) -> None:
    found = lines(text=f'[policy]\nmixed = "{mixed}"\n').changes()
    assert {"smtpd" if change.kind in ("service", "option") else change.kind for change in found} == expected
    assert not any("receive_override_options" in change.name for change in found)


def test_a_content_filter_still_sees_the_copies() -> None:
    assert "127.0.0.1:10025/inet/content_filter" not in values(lines(main={"content_filter": "scan:[127.0.0.1]:1"}))


def test_the_listener_takes_a_port_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_postfix, "can_connect", lambda name: name == "inet:10026@127.0.0.1")
    amavis = Service("127.0.0.1:10025", "inet", "smtpd", "n", {"smtpd_milters": ""})
    assert init_postfix.listener_for([*SERVICES, amavis]) == "127.0.0.1:10027"


@pytest.mark.parametrize(
    ("socket", "name"),
    [
        (f"unix:{QUEUE}/smilla/smilla.sock", "unix:smilla/smilla.sock"),
        ("unix:/run/smilla/smilla.sock", "unix:/run/smilla/smilla.sock"),
        ("inet:8899@127.0.0.1", "inet:127.0.0.1:8899"),
        ("inet6:8899@[::1]", "inet:[::1]:8899"),
    ],
)
def test_sockets_are_written_as_postfix_does(socket: str, name: str) -> None:
    assert init_postfix.as_postfix(socket, QUEUE) == name


def test_a_socket_that_a_chrooted_smtpd_cannot_reach_is_told() -> None:
    told = init_postfix.unreachable("unix:/run/smilla/s", QUEUE, SERVICES)
    assert told == f"smtp is chrooted to {QUEUE} (master.cf) and cannot reach /run/smilla/s"
    assert init_postfix.unreachable(f"unix:{QUEUE}/smilla/s", QUEUE, SERVICES) == ""
    free = [Service("smtp", "inet", "smtpd", "n", {})]
    assert init_postfix.unreachable("unix:/run/smilla/s", QUEUE, free) == ""


def test_lines_for_a_shell_are_quoted() -> None:
    changes = [Change("table", "/etc/postfix/a b", "line\n"), Change("main", "x", "$y, it's"), Change("main", "z", "")]
    assert list(shell(changes, "")) == [
        "cat >'/etc/postfix/a b' <<'END'\nline\nEND",
        "postconf -e \\\n    'x = $y, it'\"'\"'s' \\\n    'z = '",
    ]


# --- what is found


def test_domains_are_taken_from_main_cf_and_not_from_tables() -> None:
    main = {
        "mydestination": "mx.example.org, localhost.localdomain, localhost, example.org host",
        "virtual_mailbox_domains": "hash:/etc/postfix/domains",
        "relay_domains": "example.org backup.test",
    }
    found = init_look.domains(main)
    assert found.local == ("mx.example.org", "example.org")
    assert found.relayed == ("backup.test",)
    assert found.tables == ("virtual_mailbox_domains",)


def test_networks_are_those_that_are_not_loopback_alone() -> None:
    loopback = "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"
    assert init_look.networks({"mynetworks": loopback}) == []
    assert init_look.networks({"mynetworks": f"{loopback} 192.0.2.7/24, cidr:/x, !192.0.2.1"}) == [
        "127.0.0.0/8",
        "::1/128",
        "192.0.2.0/24",
    ]


def test_what_postfix_appends_is_known(tmp_path: Path) -> None:
    (tmp_path / "mailname").write_text("mail.example.org\nsecond.test\n")
    assert init_look.origin({"myorigin": str(tmp_path / "mailname")}) == "mail.example.org"
    assert init_look.origin({"myorigin": str(tmp_path / "none")}) == ""
    assert init_look.origin({"myorigin": "localhost"}) == ""
    assert init_look.appended({"append_dot_mydomain": "no", "mydomain": "x.test"}) == ""
    assert init_look.appended({"append_dot_mydomain": "yes", "mydomain": "x.test"}) == "x.test"


def test_missing_user_and_folders_are_told_with_the_command(tmp_path: Path) -> None:
    text = f'[milter]\nsocket = "unix:{tmp_path}/a b/s"\n[stage]\nsocket = "unix:{tmp_path}/a b/t"\n'
    settings = config.parse(text + f'[reinject]\nspool = "{tmp_path}/spool"\n')
    found = list(init_look.missing(settings, "no-such", "wheel"))
    assert found == [
        f"useradd --system --home-dir {tmp_path}/spool --shell /usr/sbin/nologin no-such",
        f"install -d -o no-such -g wheel -m 2750 '{tmp_path}/a b'",
        f"install -d -o no-such -g no-such -m 0700 {tmp_path}/spool",
    ]


# --- what is written


def test_only_what_differs_from_the_defaults_is_written_with_one_line_of_why() -> None:
    plan = init_plan.Plan()
    for name, value in (("observe", True), ("mode", "outbound"), ("dns.timeout_s", 3), ("local_domains", ["x.test"])):
        plan.put(name, value, f"why {name}")
    plan.put("observe", False, "too late")
    body = plan.text().split("\n\n", 1)[1]
    assert body == (
        '# why observe\nobserve = true\n\n# why local_domains\nlocal_domains = ["x.test"]\n'
        "\n[dns]\n# why dns.timeout_s\ntimeout_s = 3\n"
    )
    assert config.parse(plan.text()).dns.timeout_s == 3


def test_relayed_domains_get_a_rule() -> None:
    plan = init_plan.Plan(relayed=("backup.test",))
    assert config.parse(plan.text()).rule[0].encrypt == "never"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns.timeout_s=3", ("dns.timeout_s", 3)),
        ("observe=true", ("observe", True)),
        ("dns.probe=test.", ("dns.probe", "test.")),
        ('keys.sources=["smimea"]', ("keys.sources", ["smimea"])),
    ],
)
def test_further_options_are_toml_or_text(text: str, expected: object) -> None:
    assert init_plan.given(text) == expected


@pytest.mark.parametrize("text", ["x", "=3", "a.b.c=3"])
def test_what_names_no_option_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"TABLE\.OPTION=VALUE"):
        init_plan.given(text)


def test_lines_for_sendmail_are_those_of_contrib() -> None:
    example = re.sub(r"(?m)^dnl (?=[A-Z]+_)", "", (ROOT / "contrib/sendmail/smilla.m4").read_text())
    for mixed in ("reinject", "defer"):
        settings = config.parse(f'[milter]\nmta = "sendmail"\n[policy]\nmixed = "{mixed}"\n')
        for line in init_sendmail.lines(settings):
            assert line in example or line.startswith("dnl These replace")


# --- the command


@pytest.fixture
def machine(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """No MTA, a good resolver, no filter."""
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    monkeypatch.setattr("smilla.cli.init.postfix.is_installed", lambda: False)
    monkeypatch.setattr("smilla.cli.init_look.sendmail_check.CONFIGURATION", commands.folder / "sendmail.cf")
    monkeypatch.setattr("smilla.cli.init_look.resolver_problem", lambda _: "")
    monkeypatch.setattr("smilla.cli.init.make_ports", lambda _: None)
    monkeypatch.setattr("smilla.cli.init._check", lambda options, **_: print("checks", options.output) or 0)
    return commands


def test_a_file_that_is_there_stays_unless_forced(machine: CommandLine) -> None:
    path = machine.config("observe = false\n")
    done = machine.run("init", "--output", path)
    assert (done.code, path.read_text(), "--force" in done.err) == (0, "observe = false\n", False)
    assert f"{path}: is there already, and stays as it is\n" in done.out.decode()
    assert "\nNext:\n" in done.out.decode()
    done = machine.run("init", "--output", path, "--mode", "auto", "--local-domain", "x.test")
    assert (done.code, path.read_text()) == (0, "observe = false\n")
    assert "warning: --mode, --local-domain changed nothing in it; --force writes it anew and keeps it" in done.err
    assert machine.run("init", "--output", path, "--force").code == 0
    assert tomllib.loads(path.read_text())["observe"] is True
    assert Path(f"{path}.bak").read_text() == "observe = false\n"
    assert machine.run("init", "--output", path, "--force", "--no-observe").code == 0
    assert Path(f"{path}.bak").read_text() == "observe = false\n"
    assert tomllib.loads(Path(f"{path}.bak2").read_text())["observe"] is True
    again = machine.run("init", "--output", path, "--force", "--no-observe")
    assert (again.code, f"{path}: is already so" in again.out.decode()) == (0, True)


def test_a_file_that_is_there_and_has_a_fault_is_named_and_nothing_is_changed(machine: CommandLine) -> None:
    path = machine.config("mode = outbound\n")
    done = machine.run("init", "--output", path)
    assert (done.code, path.read_text()) == (78, "mode = outbound\n")
    assert "a text stands in quotes" in done.err
    assert "Next:" not in done.out.decode()


@pytest.mark.parametrize("folder", ["/var/spool/postfix/smilla", "/run/smilla"])
def test_the_file_of_the_package_is_replaced_unless_somebody_changed_it(
    machine: CommandLine, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    shipped = ROOT / "contrib/debian/smilla.toml"
    monkeypatch.setattr(init_look, "_SHIPPED", shipped)
    assert folder in (ROOT / "contrib/debian/smilla.postinst").read_text().replace("$QUEUE", "/var/spool/postfix")
    path = machine.config(shipped.read_text().replace("@FOLDER@", folder) + "# mine\n")
    done = machine.run("init", "--output", path)
    assert (done.code, f"{path}: is there already, and stays" in done.out.decode()) == (0, True)
    path.write_text(path.read_text().removesuffix("# mine\n"))
    done = machine.run("init", "--output", path)
    assert (done.code, f"{path}: written" in done.out.decode()) == (0, True)
    assert path.read_text().startswith("# Written by smilla init.")
    assert not Path(f"{path}.bak").exists()


def test_nothing_is_asked_for_a_file_that_stays(machine: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(question: str) -> str:
        raise AssertionError(question)

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr("smilla.cli.init._asks", lambda _: True)
    path = machine.config("observe = false\n")
    assert machine.run("init", "--output", path).code == 0
    assert path.read_text() == "observe = false\n"


def test_rights_of_a_configuration_stay_and_no_link_is_followed(machine: CommandLine) -> None:
    path, victim = machine.config("observe = false\n"), machine.folder / "victim"
    path.chmod(0o640)
    victim.write_text("precious\n")
    Path(f"{path}.bak").symlink_to(victim)
    (path.parent / f".{path.name}.{os.getpid()}").symlink_to(victim)
    assert machine.run("init", "--output", path, "--force").code == 0
    assert victim.read_text() == "precious\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_it_ends_with_what_is_left_to_do_after_the_check(machine: CommandLine) -> None:
    path = machine.folder / "new" / "smilla.toml"
    done = machine.run("init", "--output", path, "--mta", "sendmail", "--local-domain", "x.test", "--mode", "inbound")
    checked, _, after = done.out.decode().partition(f"checks {path}\n")
    assert checked.endswith(f"{path}: written\n")
    assert "\nNext:\n" in after
    assert "\nMAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T," in done.out.decode()
    written = config.load(path)
    assert (written.mode, written.local_domains, written.milter.mta) == ("inbound", ("x.test",), "sendmail")


def test_what_the_reload_mends_is_marked_and_nothing_else() -> None:
    until = "(until postfix reload: see the steps below)"
    unread = init_next.marked(error(Kind.POSTFIX_NOT_READ, "postfix", "was not told", "postfix reload"))
    assert unread.line == f"postfix: was not told {until}; postfix reload"
    refused = init_next.marked(error(Kind.LISTENER, "listener", "Connection refused", "add it"))
    assert (refused.severity, refused.line) == ("to do", f"listener: Connection refused {until}")
    down = init_next.marked(error(Kind.NOT_RUNNING, "postfix", "nobody listens", "start smilla", "until then"))
    assert down.lines == (("to do", "postfix: nobody listens (until smilla runs: see the steps below)"),)
    for other in (error(Kind.LISTENER, "x", "no banner", "y"), error(Kind.RIGHTS, "x", "refused")):
        assert init_next.marked(other) is other


def test_options_that_make_no_configuration_write_nothing(machine: CommandLine) -> None:
    path = machine.folder / "none.toml"
    assert machine.run("init", "--output", path, "--mode", "inbound").code == 78
    done = machine.run("init", "--output", path, "--set", "dns.nosuch=3")
    assert done.code == 78
    assert "error: [dns] nosuch is an unknown key" in done.err.splitlines()  # the file is not there: it has no lines
    assert machine.run("init", "--output", path, "--set", "nothing").code == 2
    assert machine.run("init", "--output", path, "--apply").code == 2
    assert not path.exists()


def test_a_resolver_that_does_not_validate_is_left_to_the_check_or_replaced(
    machine: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smilla.cli.init_look.resolver_problem", lambda _: "it does not validate")
    monkeypatch.setattr("smilla.cli.init_look.other_resolver", lambda: None)
    assert machine.run("init", "--output", machine.folder / "one.toml", "--mta", "sendmail").err == ""
    assert "dns" not in tomllib.loads((machine.folder / "one.toml").read_text())
    monkeypatch.setattr("smilla.cli.init_look.other_resolver", list)
    monkeypatch.setattr("smilla.cli.init.config.parse", lambda text: Config(observe=bool(text)))
    assert machine.run("init", "--output", machine.folder / "two.toml", "--mta", "sendmail").err == ""
    written = tomllib.loads((machine.folder / "two.toml").read_text())["dns"]
    assert written == {"dnssec": "validate", "nameservers": []}


def test_a_resolver_that_was_named_is_not_replaced(machine: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.cli.init_look.resolver_problem", lambda _: "it does not validate")
    monkeypatch.setattr("smilla.cli.init_look.other_resolver", list)
    done = machine.run("init", "--output", machine.folder / "one.toml", "--set", "dns.timeout_s=4")
    assert "it does not validate" not in done.err  # the check says so, once
    assert tomllib.loads((machine.folder / "one.toml").read_text())["dns"] == {"timeout_s": 4}


def test_without_an_engine_for_openpgp_smime_is_left(machine: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def ports(settings: Config) -> None:
        if "openpgpkey" in settings.keys.sources:
            raise EngineMissing("openpgp: neither is installed")

    monkeypatch.setattr("smilla.cli.init.make_ports", ports)
    done = machine.run("init", "--output", machine.folder / "one.toml")
    assert "so the configuration has S/MIME alone" in done.err
    assert config.load(machine.folder / "one.toml").keys.sources == ("smimea",)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["", "x.test  y.test", ""], ("outbound", ("x.test", "y.test"), True)),
        (["both", "auto", "x.test", "maybe", "no"], ("auto", ("x.test",), False)),
    ],
)
def test_on_a_terminal_it_asks_until_it_understands(
    machine: CommandLine, monkeypatch: pytest.MonkeyPatch, answers: list[str], expected: tuple[object, ...]
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: answers.pop(0))
    monkeypatch.setattr("smilla.cli.init._asks", lambda _: True)
    assert machine.run("init", "--output", machine.folder / "one.toml").code == 0
    written = config.load(machine.folder / "one.toml")
    assert (written.mode, written.local_domains, written.observe) == expected
    assert answers == []


def test_no_answer_writes_nothing(machine: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    monkeypatch.setattr("smilla.cli.init._asks", lambda _: True)
    assert machine.run("init", "--output", machine.folder / "one.toml").code == 2
    assert not (machine.folder / "one.toml").exists()


def test_the_filter_is_started_before_the_mta_asks_it_and_not_as_root(
    machine: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.folder / "one.toml"
    monkeypatch.setattr(init_look, "has_systemd", lambda: False)
    told = machine.run("init", "--output", path, "--mta", "sendmail").out.decode()
    start = "setpriv --reuid=smilla --regid=smilla --init-groups smilla milter"
    assert f"\n{start} --config {path} &\n# to reload its configuration later: kill -HUP" in told
    settings = config.load(path)
    assert "install -d -o smilla -g smilla -m 2750 /run/smilla" in init_look.missing(settings, "smilla", "smilla")
    monkeypatch.setattr(init_look, "has_systemd", lambda: True)
    told = machine.run("init", "--output", path, "--mta", "sendmail").out.decode()
    assert "\nsystemctl enable smilla && systemctl restart smilla\n" in told
    assert "/run/smilla" not in "".join(init_look.missing(settings, "smilla", "smilla"))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Answer(Who.SMILLA, process_id=4711), "kill -HUP 4711"),
        (Answer(Who.SMILLA), "already: stop it first\nsetpriv "),
        (Answer(Who.FILTER, process_id=4711), "already: stop it first\nsetpriv "),
        (Answer(Who.OTHER), "already: stop it first\nsetpriv "),
    ],
)
def test_without_systemd_a_filter_that_listens_already_is_not_started_again(
    machine: CommandLine, monkeypatch: pytest.MonkeyPatch, answer: Answer, line: str
) -> None:
    monkeypatch.setattr(init_look, "has_systemd", lambda: False)
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: answer)
    told = machine.run("init", "--output", machine.folder / "one.toml", "--mta", "sendmail").out.decode()
    assert line in told
    assert ("setpriv" in told) == ("setpriv" in line)


@pytest.mark.parametrize("who", Who)
@pytest.mark.parametrize("has_systemd", [False, True])
def test_the_mta_asks_a_filter_that_runs_before_that_starts_anew_and_waits_for_any_other(
    monkeypatch: pytest.MonkeyPatch, who: Who, has_systemd: bool
) -> None:
    """The start looks whether Postfix has read its files; without a filter Postfix defers all mail."""
    monkeypatch.setattr(init_look, "has_systemd", lambda: has_systemd)
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(who, process_id=4711))
    monkeypatch.setattr("smilla.adapters.postfix_running.runs", lambda _: True)
    options = argparse.Namespace(output="/x.toml", postfix_config="")
    steps = list(init_next._steps(options, config.parse(SOCKET), [], {"queue_directory": QUEUE}))
    verb = "systemctl enable smilla && systemctl restart" if has_systemd else "kill" if who is Who.SMILLA else "setpriv"
    (start,) = [n for n, line in enumerate(steps) if line.startswith(verb)]
    assert (steps.index("postfix reload") < start) == (who is Who.SMILLA)
    assert steps[-1] == "smilla config check --probe --config /x.toml"
