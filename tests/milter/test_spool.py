"""Bodies too large for memory, through the whole filter: octet for octet, and nothing of them on the disk."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.milter.material import CANARY, directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients, Mail
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

LARGE = (CANARY + b" " * 40 + b"\r\n") * 20_000


@pytest.fixture(scope="module")
def spooling(start_once: Starter, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Smilla:
    """A filter that keeps no whole block in memory."""
    folder = tmp_path_factory.mktemp("spool")
    for place in folder.parents[:3]:
        place.chmod(place.stat().st_mode | stat.S_IXOTH)  # pytest's folders, where other tests have configurations
    folder.chmod(0o777)
    return start_once(directory_settings(keys, spool={"threshold_kib": 0, "folder": str(folder)}))


@pytest.mark.parametrize("name", ["alice", "erin", "bob"])
@pytest.mark.parametrize("size", [0, 1, 65_535, 262_144, len(LARGE)])
def test_a_body_from_the_spool_opens_to_what_was_sent(
    name: str, size: int, spooling: Smilla, clients: Clients, opened: Callable[[Mail, Mail, str], None]
) -> None:
    mail = plain_mail(body=LARGE[:size])
    answer = clients.open(spooling.milter).send(mail, [f"<{name}@r.test>"])
    opened(answer.applied(mail, postfix=True), mail, name)


def test_what_needs_no_encryption_is_left_alone_from_the_spool_too(spooling: Smilla, clients: Clients) -> None:
    answer = clients.open(spooling.milter).send(plain_mail(body=LARGE), ["<nobody@r.test>"])
    assert (answer.verdict, answer.edits) == ("accept", ())


def test_where_the_folder_has_gone_large_mail_is_deferred_and_small_mail_goes_on(
    start: Starter, keys: Keys, clients: Clients, opened: Callable[[Mail, Mail, str], None], tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    smilla = start(directory_settings(keys, spool={"folder": str(folder)}))
    folder.rmdir()
    client = clients.open(smilla.milter)
    answer = client.send(plain_mail(body=LARGE), ["<alice@r.test>"])
    assert (answer.verdict, answer.reply[:9], answer.edits) == ("tempfail", "451 4.3.0", ())
    assert f"{folder}: no body can be put there" in smilla.wait_for_log("internal-error")
    assert smilla.log.count("internal-error") == 1, "one line a message, however much of it still comes"
    mail = plain_mail()
    opened(client.send(mail, ["<alice@r.test>"]).applied(mail, postfix=True), mail, "alice")
