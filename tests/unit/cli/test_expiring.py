"""smilla expiring: what is listed, and the exit codes that scripts rely on."""

from __future__ import annotations

from datetime import timedelta
from email import message_from_string

import pytest

from tests.certificates import make_certificate, to_pem
from tests.unit.cli.conftest import CommandLine, Done
from tests.vectors.memory import NOW, raw_key

FOLDER = '[keys]\ndirectory = "/keys"\n'


def certificate(who: str, days: int, begins_in: int = -400) -> bytes:
    begins_at, ends_at = NOW + timedelta(days=begins_in), NOW + timedelta(days=days, hours=1)
    return make_certificate("p256", email=who, not_before=begins_at, not_after=ends_at, number=begins_in)[1]


@pytest.fixture
def published(commands: CommandLine) -> CommandLine:
    """soon@ and next@ end in 5 days, and next@ has a certificate that begins before; both@ has one that holds already;
    late@ lasts 90 days; gone@ has ended."""
    keys = {"soon": [(5, -400)], "next": [(5, -400), (90, 2)], "both": [(5, -400), (90, -2)]}
    keys |= {"late": [(90, -400)], "gone": [(-5, -400)]}
    for who, days in keys.items():
        raw = [b"\3\0\0" + certificate(f"{who}@example.org", *one) for one in days]
        commands.resolver.publish(f"{who}@example.org", "smimea", "secure", *raw)
    return commands


def expiring(commands: CommandLine, *arguments: str, config: str = "") -> Done:
    return commands.run("expiring", "--config", commands.config(config), *arguments)


@pytest.mark.parametrize(
    ("who", "code", "standing", "successor"),
    [
        ("soon", 1, "ends", "no"),
        ("next", 1, "ends", "yes"),
        ("both", 0, "lasts", None),
        ("late", 0, "lasts", None),
        ("gone", 1, "ended", None),
        ("zoe", 0, "no_usable_key", None),
        ("unsigned", 0, "no_usable_key", None),
        ("forged", 75, "untold", None),
        ("silent", 75, "untold", None),
    ],
)
def test_exit_code_tells_whether_a_key_ends(
    published: CommandLine, who: str, code: int, standing: str, successor: str | None
) -> None:
    done = expiring(published, "--json", "--all", f"{who}@example.org")
    assert (done.code, done.err) == (code, "")
    (found,) = done.json
    assert (found["standing"], found["successor"]) == (standing, successor)
    assert expiring(published, "--quiet", f"{who}@example.org").out == b""


def test_key_that_ends_comes_before_one_that_cannot_be_told(published: CommandLine) -> None:
    done = expiring(published, "forged@example.org", "soon@example.org", "late@example.org")
    assert done.code == 1
    lines = done.out.decode().splitlines()
    assert [line.partition("@")[0] for line in lines] == ["soon", "forged"]
    assert "ends in 5 days, on 2026-11-25: smime key" in lines[0]
    assert "no other usable key is there" in lines[0]
    assert "cannot be told" in lines[1]


def test_days_say_how_far_to_look(published: CommandLine) -> None:
    assert expiring(published, "--days", "4", "soon@example.org").code == 0
    assert expiring(published, "--days", "91", "late@example.org").code == 1
    for days in ("-1", "99999999999"):
        assert expiring(published, "--days", days, "late@example.org").code == 2


def test_folder_is_asked_where_no_address_is_given(published: CommandLine) -> None:
    published.files |= {
        "ann@example.org.cer": certificate("ann@example.org", 3),
        "pia@example.org.pgp": raw_key("pia.pgp"),
        "README": b"no key",
    }
    done = expiring(published, "--json", "--all", config=FOLDER)
    assert done.code == 1
    assert [(found["address"], found["standing"]) for found in done.json] == [
        ("ann@example.org", "ends"),
        ("pia@example.org", "lasts"),
    ]
    assert (done.json[0]["source"], done.json[0]["where"]) == ("directory", "ann@example.org.cer")
    assert published.resolver.asked == []


def test_file_of_the_folder_that_cannot_be_read_cannot_be_told(published: CommandLine) -> None:
    published.files["ann@example.org.cer"] = None
    assert expiring(published, config=FOLDER).code == 75


def test_addresses_may_stand_in_a_file(published: CommandLine) -> None:
    path = published.file("addresses", b"# ours\nsoon@example.org\n\nlate@example.org\n")
    done = expiring(published, "--json", "--all", "-f", str(path))
    assert [found["address"] for found in done.json] == ["soon@example.org", "late@example.org"]
    assert expiring(published, "-f", str(published.file("addresses", b"soon\n"))).code == 2
    assert expiring(published, "-f", str(published.folder / "missing")).code == 1


def test_nothing_to_ask_is_a_usage_error(published: CommandLine) -> None:
    done = expiring(published)
    assert done.code == 2
    assert "no key folder" in done.err


def test_dry_run_writes_to_those_who_must_act_and_to_nobody_else(published: CommandLine) -> None:
    who = [f"{name}@example.org" for name in ("soon", "next", "late", "gone", "zoe")]
    done = expiring(published, "--mail", "--from", "postmaster@example.org", "--dry-run", "--quiet", *who)
    notices = [message_from_string(f"From: {text}") for text in done.err.split("From: ")[1:]]
    assert [notice["To"] for notice in notices] == ["soon@example.org", "gone@example.org"]
    assert "ended on 2026-11-15" in str(notices[1])


def test_end_of_an_openpgp_key_that_has_ended_is_told(published: CommandLine) -> None:
    published.resolver.publish("pia@example.org", "openpgpkey", "secure", raw_key("pgp-expired.pgp"))
    done = expiring(published, "--json", "pia@example.org")
    assert done.code == 1
    assert done.json[0]["standing"] == "ended"
    assert done.json[0]["ends_at"]


@pytest.mark.parametrize(
    "more", [["--mail"], ["--mail", "--from", "x"], ["--mail", "--from", "a@b.example", "--smtp", "x"]]
)
def test_notices_need_a_sender_and_a_listener(published: CommandLine, more: list[str]) -> None:
    assert expiring(published, "--mail", *more, "soon@example.org").code == 2


def test_keys_of_rules_are_looked_at_with_the_folder_and_nobody_is_written_to(published: CommandLine) -> None:
    path = published.file("partner.crt", to_pem(certificate("gateway@partner.example", 5)))
    rule = f'[[rule]]\ndomain = ["partner.example"]\nkey = "{path}"\n'
    done = expiring(published, "--json", config=rule)
    assert done.code == 1
    (found,) = done.json
    assert (found["address"], found["source"]) == ("rule 1 (domain = partner.example)", "rule")
    assert (found["standing"], found["where"]) == ("ends", str(path))
    mail = ["--mail", "--from", "postmaster@example.org", "--dry-run"]
    assert expiring(published, *mail, config=rule).err == ""
    assert expiring(published, "--json", "late@example.org", config=rule).json == []
