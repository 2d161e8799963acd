"""smilla config check, show and sample."""

from __future__ import annotations

import sys

import pytest

from smilla.adapters.folder import KeyDirectory
from smilla.adapters.milter_client import Answer, Who
from smilla.cli import config as config_command
from smilla.config import Config, parse
from smilla.doctor import finding
from smilla.doctor.finding import Finding, Kind
from smilla.keys.discovery.directory import address_of
from smilla.server import runtime
from tests.unit.cli.conftest import CommandLine
from tests.vectors.memory import KEYS, make_ports


def test_sample_is_a_configuration(commands: CommandLine) -> None:
    done = commands.run("config", "sample")
    assert (done.code, done.err) == (0, "")
    assert parse(done.out.decode()) == Config()


def test_check_of_a_good_file_is_0(commands: CommandLine) -> None:
    path = commands.config('[policy]\nno_key = "refuse"\n')
    done = commands.run("config", "check", "--config", path)
    assert (done.code, done.out, done.err) == (0, f"{path}: the file has no fault\n".encode(), "")


def test_check_says_where_the_domains_belong_that_a_backup_relays_for(commands: CommandLine) -> None:
    auto = 'mode = "auto"\nlocal_domains = ["x.test"]\n'
    never = '[[rule]]\ndomain = ["y.test"]\nencrypt = "never"\n'
    for text, hints in ((auto, 1), (auto + never, 0), (auto.replace("auto", "inbound"), 0)):
        done = commands.run("config", "check", "--config", commands.config(text))
        assert (done.code, done.err.count("hint: "), done.err.count("relay_domains")) == (0, hints, hints)


@pytest.mark.parametrize(("engine", "hints"), [("auto", 1), ("gnupg", 0)])
def test_check_says_that_gpg_alone_does_openpgp_unless_that_was_asked_for(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch, engine: str, hints: int
) -> None:
    monkeypatch.setitem(sys.modules, "smilla.adapters.sequoia", None)
    monkeypatch.setattr("smilla.cli.config.make_ports", runtime.make_ports)
    done = commands.run("config", "check", "--config", commands.config(f'[openpgp]\nengine = "{engine}"\n'))
    assert (done.code, done.err.count("hint: "), done.err.count("pip install pysequoia")) == (0, hints, hints)


def test_check_names_every_fault_with_its_line(commands: CommandLine) -> None:
    path = commands.config('[policy]\nno_kye = "plain"\nno_key = "perhaps"\n\n[dns]\ntimeout_s = 0\n')
    done = commands.run("config", "check", "--config", path)
    assert (done.code, done.out) == (78, b"")
    assert [line.split(" ")[1] for line in done.err.splitlines()] == [f"{path}:6:", f"{path}:2:", f"{path}:3:"]
    assert "did you mean no_key?" in done.err
    assert "perhaps" in done.err


def test_check_of_a_missing_file_is_78(commands: CommandLine) -> None:
    assert commands.run("config", "check", "--config", "/nonexistent/smilla.toml").code == 78


def test_show_prints_what_is_in_force(commands: CommandLine) -> None:
    path = commands.config(
        'mode = "inbound"\nlocal_domains = ["example.org"]\n[[rule]]\nrecipient = "*"\nno_key = "hold"\n'
    )
    done = commands.run("config", "show", "--config", path)
    assert done.code == 0
    shown = parse(done.out.decode())
    assert (shown.mode, shown.policy.unusable_key, shown.rule[0].no_key) == ("inbound", "defer", "hold")


def test_show_of_a_faulty_file_is_78_and_prints_nothing(commands: CommandLine) -> None:
    done = commands.run("config", "show", "--config", commands.config("mode = 1"))
    assert (done.code, done.out) == (78, b"")


def test_probe_tells_of_the_journal(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = commands.folder / "spool"
    keys = commands.folder / "keys"
    keys.mkdir()
    text = f'[milter]\nsocket = "unix:{commands.folder}/s"\n[keys]\nsources = ["directory"]\ndirectory = "{keys}"\n'
    path = commands.config(f'{text}[reinject]\nsmtp = "127.0.0.1:1"\nspool = "{spool}"\n')

    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.SMILLA))
    monkeypatch.setattr("smilla.doctor.examination.smtp.problems", lambda *_: [("error", "refused")])
    monkeypatch.setattr("smilla.doctor.examination.listener.can_connect", lambda _: False)

    def probe() -> tuple[str, str]:
        done = commands.run("config", "check", "--probe", "--config", path)
        assert done.code == 1
        return done.out.decode(), done.err

    assert f"journal {spool}: made at the start" in probe()[0]
    spool.mkdir(0o700)
    assert f"journal {spool}: belongs to {spool.owner()}, 0 messages" in probe()[0]
    (spool / "journal.sqlite3").write_bytes(b"this is no database, whatever its name says\n" * 20)
    assert f"error: journal {spool}: {spool}/journal.sqlite3: file is not a database; stop smilla" in probe()[1]
    (spool / "journal.sqlite3").unlink()
    path.write_text(path.read_text().replace("[milter]\n", '[milter]\nuser = "nobody"\n'))
    told = f"{spool} belongs to {spool.owner()}, but smilla runs as nobody; chown -R nobody {spool}"
    assert told in probe()[1]
    spool.rename(commands.folder / "moved")
    spool.touch()
    assert f"error: journal {spool}: " in probe()[1]


def test_probe_says_what_to_do_without_a_listener(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.SMILLA))
    monkeypatch.setattr("smilla.doctor.examination.smtp.problems", lambda name, _: [("error", f"{name}: refused")])
    monkeypatch.setattr("smilla.doctor.examination.listener.can_connect", lambda _: False)
    text = f'[keys]\nsources = ["directory"]\ndirectory = "/"\n[reinject]\nspool = "{commands.folder}/spool"\n'
    done = commands.run("config", "check", "--probe", "--config", commands.config(text))
    told = (
        "error: re-injection listener 127.0.0.1:10025: refused; add it to the MTA (contrib/postfix, contrib/sendmail)"
    )
    assert told in done.err
    monkeypatch.setattr("smilla.doctor.examination.listener.can_connect", lambda _: True)
    done = commands.run("config", "check", "--probe", "--config", commands.config(text))
    assert "10025: what listens there is not the one for copies: refused" in done.err
    assert "stop it (ss -ltnp says what it is), or choose another port" in done.err


def test_somebody_who_answers_for_a_stopped_postfix_is_an_error(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.SMILLA))
    monkeypatch.setattr("smilla.doctor.examination.smtp.problems", lambda *_: [("warning", "does not offer DSN")])
    monkeypatch.setattr("smilla.adapters.port_holder.holder", lambda port: f"nc (process {port})")
    text = f'[keys]\nsources = ["directory"]\ndirectory = "/"\n[reinject]\nspool = "{commands.folder}/spool"\n'
    path = commands.config(text)
    told = "error: re-injection listener 127.0.0.1:10025: Postfix does not run, but nc (process 10025) answers there"
    for start in ("", "postfix start"):
        monkeypatch.setattr("smilla.doctor.examination._start_of_postfix", lambda *_, start=start: start)
        done = commands.run("config", "check", "--probe", "--config", path)
        assert (done.code, told in done.err) == ((1, True) if start else (0, False)), done.err
    assert "; then postfix start" in done.err
    path.write_text(path.read_text() + "[stage]\ncheck = false\n")
    assert commands.run("config", "check", "--probe", "--config", path).code == 0


def test_check_warns_of_a_socket_that_other_machines_reach(commands: CommandLine) -> None:
    done = commands.run("config", "check", "--config", commands.config('[milter]\nsocket = "inet:8895@192.0.2.1"\n'))
    assert done.code == 0
    assert done.err.startswith("warning: [milter] socket inet:8895@192.0.2.1 is open to other machines: mail comes")
    near = commands.run("config", "check", "--config", commands.config('[milter]\nsocket = "inet:8895@127.0.0.1"\n'))
    assert near.err == ""


def test_check_tells_what_is_in_the_folder_of_keys_and_what_of_it_is_of_no_use(commands: CommandLine) -> None:
    folder = commands.folder / "keys"
    folder.mkdir()
    good = (KEYS / "hugh.crt").read_bytes()
    private = b"-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n"
    files = {
        "hugh@example.org.crt": good,
        "old@example.org.pem": (KEYS / "expired.crt").read_bytes(),
        "hugh.crt": good,
        "key@example.org.pem": private + good,
    }
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    text = f'[keys]\nsources = ["directory"]\ndirectory = "{folder}"\n'
    ports = make_ports()
    object.__setattr__(ports, "folder", KeyDirectory(str(folder), address_of))
    commands.monkeypatch.setattr("smilla.cli.config.make_ports", lambda _: ports)
    done = commands.run("config", "check", "--config", commands.config(text))
    assert done.code == 0
    assert f"keys {folder}: 4 files, 2 of 3 addresses with a usable key" in done.out.decode()
    warnings = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert [word for line in warnings for word in ("old@", "hugh.crt", "private key") if word in line] == [
        "old@",
        "hugh.crt",
        "private key",
    ]


DIRECTORY = '[keys]\nsources = ["directory"]\ndirectory = "{folder}"\n'


def checked(commands: CommandLine, text: str) -> list[str]:
    """The warnings and hints about a configuration without a fault; {folder} in it is one that is there."""
    done = commands.run("config", "check", "--config", commands.config(text.replace("{folder}", str(commands.folder))))
    assert done.code == 0, done.err
    return done.err.splitlines()


@pytest.mark.parametrize("folder", ["{folder}", "/nonexistent"])
def test_check_warns_of_a_folder_of_keys_that_no_source_reads(commands: CommandLine, folder: str) -> None:
    (line,) = checked(commands, f'[keys]\ndirectory = "{folder}"\n')
    assert line.startswith("warning: [keys] directory is ")
    assert checked(commands, DIRECTORY) == []


def test_check_warns_of_a_directory_that_no_source_asks(commands: CommandLine) -> None:
    text = '[ldap]\nurl = "ldaps://localhost"\n'
    (line,) = checked(commands, text)
    assert line.startswith("warning: [ldap] url is ")
    assert checked(commands, f'[keys]\nsources = ["ldap"]\n{text}') == []


@pytest.mark.parametrize(
    "text",
    [
        '[keys]\ntrust = ["dnssec", "web"]\n',
        '[keys]\nsources = ["smimea"]\n[[rule]]\nuser = "*"\ntrust = ["dnssec", "web"]\n',
    ],
)
def test_check_warns_of_trust_in_what_no_source_has(commands: CommandLine, text: str) -> None:
    assert checked(commands, text) == ["warning: trust names web, but none of [keys] sources rests on that"]
    assert checked(commands, text.replace(', "web"', "")) == []


def test_check_warns_of_keys_in_folders_below(commands: CommandLine) -> None:
    for name, file in (("staff", "hugh@example.org.crt"), ("old", "notes.txt")):
        (commands.folder / name).mkdir()
        (commands.folder / name / file).write_bytes(b"")
    (line,) = checked(commands, DIRECTORY)
    assert line.startswith(f"warning: keys {commands.folder}/staff: ")


@pytest.mark.parametrize("name", ["a@x.test,b@x.test.crt", "a@b@x.test.asc", "a;b@x.test.crt"])
def test_check_names_a_file_of_keys_that_is_named_for_several(commands: CommandLine, name: str) -> None:
    folder = commands.folder / "keys"
    folder.mkdir()
    (folder / name).write_bytes((KEYS / "hugh.crt").read_bytes())
    ports = make_ports()
    object.__setattr__(ports, "folder", KeyDirectory(str(folder), address_of))
    commands.monkeypatch.setattr("smilla.cli.config.make_ports", lambda _: ports)
    assert any(f"/{name}: is for one mailbox" in line for line in checked(commands, DIRECTORY))


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        ('local_domains = ["*"]', True),
        ('local_domains = ["a.test", "*.*"]', True),
        ('local_domains = ["*.test"]', False),
        ('mode = "inbound"\nlocal_domains = ["*"]', False),
    ],
)
def test_check_warns_where_nobody_is_encrypted_for(commands: CommandLine, text: str, warns: bool) -> None:
    assert ["all domains" in line for line in checked(commands, text)] == [True] * warns


@pytest.mark.parametrize(
    ("first", "second", "idle"),
    [
        ('recipient = "*"', 'recipient = "*@x.test"', True),
        ('recipient = "*@*"', 'sender = "<>"', True),
        ('sender = "*"', 'user = "bob"', True),
        ('domain = ["*"]', 'recipient = "*@x.test"', True),
        ('recipient = "*@X.test"', 'recipient = "bob+*@x.test"', True),
        ('recipient = "*@*.test"', 'recipient = "*@x.test"\nsender = "a@b.test"', True),
        ('domain = ["a.test", "*.b.test"]', 'domain = ["x.b.test", "a.test"]', True),
        ('direction = "outbound"', 'recipient = "*@x.test"', True),
        ('client = ["10.0.0.0/8"]', 'client = ["10.0.0.0/8"]\nuser = "bob"', True),
        ('user = "*"', 'user = "bob"', True),
        ('user = "*"', 'recipient = "*@x.test"', False),
        ('sender = "*@*"', 'sender = "<>"', False),
        ('recipient = "?@x.test"', 'recipient = "*@x.test"', False),
        ('recipient = "[ab]@x.test"', 'recipient = "*@x.test"', False),
        ('recipient = "bob@x.test"', 'recipient = "*@x.test"', False),
        ('recipient = "*"\nsender = "a@b.test"', 'recipient = "*@x.test"', False),
        ('client = ["10.0.0.0/8"]', 'recipient = "*@x.test"', False),
    ],
)
def test_check_warns_of_a_rule_behind_one_that_always_holds(
    commands: CommandLine, first: str, second: str, idle: bool
) -> None:
    lines = checked(commands, f"[[rule]]\n{first}\nno_key = 'hold'\n[[rule]]\n{second}\nno_key = 'refuse'\n")
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert warnings == ["warning: rule 2 can never apply: rule 1 before it holds wherever it would"] * idle


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("*.a.test", "x.a.test", True),
        ("A.test.", "a.test", True),
        ("*.a.test", "?.a.test", True),
        ("*.bücher.test", "x.xn--bcher-kva.test", True),
        ("x.a.test", "*.a.test", False),
        ("?.a.test", "*.a.test", False),
        ("a.test", "b.test", False),
    ],
)
def test_check_warns_of_a_domain_that_another_circle_takes(
    commands: CommandLine, first: str, second: str, taken: bool
) -> None:
    authority = commands.folder / "circle.pem"
    authority.write_bytes((KEYS / "hugh.crt").read_bytes())
    circles = "".join(
        f'[[circle]]\nname = "{name}"\ndomains = ["{domain}"]\nca_file = "{authority}"\n'
        for name, domain in (("first", first), ("second", second))
    )
    told = f"warning: circle second: {second} of its domains is in circle first before it"
    lines = [line for line in checked(commands, circles) if "of its domains" in line]
    assert [line.startswith(told) for line in lines] == [True] * taken


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ('[[rule]]\ndirection = "inbound"\nrecipient = "*@x.test"', True),
        ('mode = "inbound"\nlocal_domains = ["x.test"]\n[[rule]]\ndirection = "outbound"', True),
        ('mode = "auto"\nlocal_domains = ["x.test"]\n[[rule]]\ndirection = "outbound"', False),
        ('[[rule]]\ndomain = ["x.test"]\nrecipient = "*@y.test"', True),
        ('[[rule]]\ndomain = ["*.test"]\nrecipient = "*@y.test"', False),
    ],
)
def test_check_warns_of_a_rule_whose_conditions_never_hold(commands: CommandLine, text: str, idle: bool) -> None:
    assert any("rule 1 can never apply" in line for line in checked(commands, f"{text}\nno_key = 'hold'\n")) is idle


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("", 0),
        ('local_domains = ["x.test"]\n', 1),
        (DIRECTORY, 1),
        (DIRECTORY + 'subaddress = ""\n', 0),
        (DIRECTORY + '[[rule]]\nrecipient = "bob+*@x.test"\nno_key = "refuse"\n', 0),
    ],
)
def test_check_says_how_a_rule_holds_for_tags_too(commands: CommandLine, text: str, hints: int) -> None:
    lines = checked(commands, f'{text}[[rule]]\nrecipient = "bob@x.test"\nno_key = "refuse"\n')
    assert len(lines) == hints
    assert all("write a rule with bob+*@x.test" in line for line in lines)


@pytest.mark.parametrize("name", ["MIME-Version", "from", "To", "Subject", "Date", "Message-ID", "Received",
                                  "Content-Type", "Content-X", "Resent-To", "X-Smilla"])  # fmt: skip
def test_field_that_mail_has_anyway_is_no_wish(commands: CommandLine, name: str) -> None:
    done = commands.run("config", "check", "--config", commands.config(f'[policy]\nwish_header = "{name}"\n'))
    assert done.code == 78
    assert "wish_header is" in done.err


def test_json_is_one_document_of_all_findings(commands: CommandLine) -> None:
    path = commands.config('[milter]\nsocket = "inet:8895@192.0.2.1"\n')
    done = commands.run("config", "check", "--json", "--config", path)
    assert (done.code, done.err, done.json["configuration"]) == (0, "", str(path))
    assert [(each["kind"], each["severity"]) for each in done.json["findings"]] == [
        ("open-socket", "warning"),
        ("configuration", "ok"),
    ]
    assert all(set(each) == {"kind", "severity", "subject", "text", "mend", "why"} for each in done.json["findings"])


def test_json_of_a_faulty_configuration_has_its_faults(commands: CommandLine) -> None:
    done = commands.run("config", "check", "--json", "--config", commands.config("a = 1\nb = 2\n"))
    assert (done.code, done.err) == (78, "")
    assert [(each["kind"], each["severity"]) for each in done.json["findings"]] == [("configuration", "error")] * 2


def test_a_private_key_alone_is_no_malformed_certificate(commands: CommandLine) -> None:
    folder = commands.folder / "keys"
    folder.mkdir()
    (folder / "a@x.test.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n")
    ports = make_ports()
    object.__setattr__(ports, "folder", KeyDirectory(str(folder), address_of))
    commands.monkeypatch.setattr("smilla.cli.config.make_ports", lambda _: ports)
    told = [line for line in checked(commands, DIRECTORY) if "x.test" in line]
    assert "a@x.test: no usable key is in its file, but a private key" in told[0]
    assert "holds a private key, which smilla never needs: move it" in told[1]
    assert len(told) == 2


def test_a_page_without_its_packages_has_two_ways_out(commands: CommandLine) -> None:
    text = '[web]\nlisten = "127.0.0.1:8080"\n[keys]\nsources = ["smimea"]\n'
    assert checked(commands, text) == []
    commands.monkeypatch.setitem(sys.modules, "smilla.server.web", None)
    (line,) = checked(commands, text)
    assert line.startswith('warning: [web] listen = "127.0.0.1:8080", but the page cannot be served: ')
    assert line.endswith("pip install 'smilla[web]' (the Debian package has them), or take listen out of [web]")


@pytest.mark.parametrize(
    ("stage", "also", "text", "told"),
    [
        ("answers", [], "", 1),
        ("nobody listens yet", [], "", 0),
        ("answers", [finding.error(Kind.TIMEOUT, "postfix", "is wrong")], "", 0),
        ("answers", [finding.error(Kind.SPOOL, "", "is full")], "", 1),
        ("answers", [], "[stage]\ncheck = false\n", 0),
        ("answers", [], '[policy]\nmixed = "defer"\n', 0),
    ],
)
def test_the_probe_tells_the_filter_good_news_that_it_waits_for_and_nothing_else(
    commands: CommandLine, stage: str, also: list[Finding], text: str, told: int
) -> None:
    looked: list[str | None] = []

    def check_lines(_: object, folder: str | None) -> list[Finding]:
        looked.append(folder)
        return []

    commands.monkeypatch.setattr(config_command, "_check_lines", check_lines)
    found = [finding.fine(Kind.STAGE, "stage unix:/x", stage), *also]
    kept = config_command._told(parse(text), found, "/etc/postfix")
    assert looked == ["/etc/postfix"] * told
    assert [each.severity for each in kept] == [""] * told


def test_a_probe_that_may_not_tell_the_filter_says_so(commands: CommandLine) -> None:
    refused = finding.error(Kind.POSTFIX_UNSEEN, "postfix", "/x/postfix.json: cannot be written")
    commands.monkeypatch.setattr(config_command, "_check_lines", lambda *_: [refused])
    (told,) = config_command._told(parse(""), [finding.fine(Kind.STAGE, "stage unix:/x", "answers")], "/etc/postfix")
    assert (told.severity, "cannot be written" in told.text) == ("hint", True)


@pytest.mark.parametrize("who", [Who.NOBODY, Who.SMILLA])
def test_what_postfix_has_not_read_is_a_step_to_do_while_no_filter_runs(commands: CommandLine, who: Who) -> None:
    """The start of the filter logs it, and the reload may come after that."""
    unread = finding.error(Kind.POSTFIX_NOT_READ, "postfix", "was not told to read main.cf", "postfix reload")
    other = finding.error(Kind.STAGE_WAY, "postfix", "pickup", "a line")
    commands.monkeypatch.setattr(config_command, "_check_lines", lambda *_: [unread, other])
    commands.monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(who))
    done = commands.run("config", "check", "--postfix", "--config", commands.config('[milter]\nmta = "postfix"\n'))
    assert done.code == 1
    assert done.err.count("error: ") == (1 if who is Who.NOBODY else 2)
    assert ("to do: postfix: was not told to read main.cf; postfix reload\n" in done.err) == (who is Who.NOBODY)


def test_a_postfix_that_does_not_ask_smilla_yet_is_one_hint_and_not_told_as_good_news(commands: CommandLine) -> None:
    not_asked = config_command._NOT_ASKED
    commands.monkeypatch.setattr(config_command, "_check_lines", lambda *_: [not_asked])
    done = commands.run("config", "check", "--postfix", "--config", commands.config('[milter]\nmta = "postfix"\n'))
    assert (done.code, done.err) == (1, "hint: postfix: Postfix does not ask smilla yet; smilla init --apply\n")
    (told,) = config_command._told(parse(""), [finding.fine(Kind.STAGE, "stage unix:/x", "answers")], "/etc/postfix")
    assert (told.severity, "could not be told" in told.text) == ("hint", True)
