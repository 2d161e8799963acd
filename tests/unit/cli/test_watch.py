"""smilla watch: what is published against what is held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.certificates import make_certificate
from tests.openpgp_maker import FLAGS_CERTIFY, FLAGS_ENCRYPT, packet, seconds, secret, subkey, user_id
from tests.unit.cli.conftest import CommandLine, Done
from tests.vectors.memory import NOW

WHO = "ann@example.org"


def certificate(days: int = 200, since: int = -100, who: str = WHO) -> bytes:
    begins_at, ends_at = NOW + timedelta(days=since), NOW + timedelta(days=days)
    return make_certificate("p256", email=who, not_before=begins_at, not_after=ends_at, number=since)[1]


def watch(commands: CommandLine, *arguments: str) -> Done:
    return commands.run("watch", "--config", commands.config('[keys]\ndirectory = "/keys"\n'), *arguments)


HELD = certificate()
HASH = b"\3\0\1" + bytes(32)


@pytest.mark.parametrize(
    ("status", "published", "state", "code"),
    [
        ("secure", [HELD], "same", 0),
        ("secure", [HELD, HASH], "same", 0),
        ("secure", [], "missing", 1),
        ("insecure", [], "missing", 1),
        ("secure", [certificate(since=-300)], "older", 1),
        ("secure", [certificate(since=-30)], "newer", 1),
        ("secure", [certificate(days=-5)], "expired", 1),
        ("secure", [certificate(who="eve@example.org")], "unusable", 1),
        ("secure", [HASH], "unusable", 1),
        ("insecure", [HELD], "insecure", 1),
        ("bogus", [], "bogus", 1),
        ("indeterminate", [], "bogus", 1),
        ("unreachable", [], "unreachable", 75),
    ],
    ids=lambda given: str(len(given)) if isinstance(given, list) else str(given),
)
def test_state_of_a_certificate_and_exit_code(
    commands: CommandLine, status: str, published: list[bytes], state: str, code: int
) -> None:
    commands.files[f"{WHO}.cer"] = HELD
    raw = [one if one is HASH else b"\3\0\0" + one for one in published]
    commands.resolver.publish(WHO, "smimea", status, *raw)
    done = watch(commands, "--json")
    (found,) = done.json
    assert (found["address"], found["format"], found["state"], done.code) == (WHO, "smime", state, code)


def test_published_key_that_ends_soon_is_told_unless_days_are_fewer(commands: CommandLine) -> None:
    held = certificate(days=20)
    commands.files[f"{WHO}.cer"] = held
    commands.resolver.publish(WHO, "smimea", "secure", b"\3\0\0" + held)
    assert watch(commands, "--json").json[0]["state"] == "expiring"
    assert watch(commands, "--days", "10").code == 0


MADE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
PRIMARY = secret("eddsa", MADE)


def openpgp(days: int | None) -> bytes:
    ends = [seconds(9, int((NOW + timedelta(days=days)).timestamp()) - MADE)] if days else []
    return (
        packet(6, PRIMARY.body)
        + user_id(PRIMARY, f"Ann <{WHO}>", MADE, FLAGS_CERTIFY)
        + subkey(PRIMARY, secret("cv25519", MADE), MADE, FLAGS_ENCRYPT, *ends)
    )


@pytest.mark.parametrize(
    ("held", "published", "state"),
    [(None, None, "same"), (None, 90, "older"), (200, 90, "older"), (90, 200, "same"), (90, None, "same")],
)
def test_prolonged_openpgp_key_must_be_published_anew(
    commands: CommandLine, held: int | None, published: int | None, state: str
) -> None:
    commands.files[f"{WHO}.pgp"] = openpgp(held)
    commands.resolver.publish(WHO, "openpgpkey", "secure", openpgp(published))
    (found,) = watch(commands, "--json").json
    assert (found["format"], found["state"]) == ("openpgp", state)


def test_each_format_of_an_address_is_compared_alone(commands: CommandLine) -> None:
    commands.files |= {f"{WHO}.cer": HELD, f"{WHO}.pgp": openpgp(None)}
    commands.resolver.publish(WHO, "openpgpkey", "secure", openpgp(None))
    done = watch(commands, "--json")
    assert {found["format"]: found["state"] for found in done.json} == {"smime": "missing", "openpgp": "same"}
    assert b"openpgp" not in watch(commands, "--quiet").out


def test_file_without_a_usable_key_and_one_that_cannot_be_read_are_no_agreement(commands: CommandLine) -> None:
    commands.files[f"{WHO}.cer"] = certificate(days=-5)
    done = watch(commands, "--json")
    assert (done.json[0]["state"], done.code) == ("not_held", 1)
    commands.files[f"{WHO}.cer"] = None
    done = watch(commands, "--json")
    assert (done.json[0]["state"], done.code) == ("unclear", 75)


def test_only_the_addresses_given_are_compared(commands: CommandLine) -> None:
    commands.files |= {f"{WHO}.cer": HELD, "eve@example.org.cer": certificate(who="eve@example.org")}
    assert [found["address"] for found in watch(commands, "--json", WHO).json] == [WHO]
    assert watch(commands, "ann").code == 2


def test_counts_are_written_without_an_address(commands: CommandLine) -> None:
    commands.files |= {f"{WHO}.cer": HELD, "eve@example.org.cer": certificate(who="eve@example.org")}
    path = commands.folder / "watch.prom"
    assert watch(commands, "--metrics", str(path)).code == 1
    text = path.read_text()
    assert "@" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts = {sample.labels["state"]: sample.value for sample in families["smilla_watch_keys"].samples}
    assert (counts["missing"], counts["same"]) == (2, 0)
    assert families["smilla_watch_timestamp_seconds"].samples[0].value == NOW.timestamp()


def test_without_a_folder_there_is_nothing_to_compare_with(commands: CommandLine) -> None:
    assert commands.run("watch", "--config", commands.config()).code == 2
