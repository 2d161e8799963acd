"""The filter over TCP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.processes import free_port, processes_in, wait_until
from tests.milter.material import directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.milter.client import Clients, Mail
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys


def descriptors(folder: Path) -> int:
    """What all processes of the filter have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid, *_ in map(str.split, processes_in(folder)))


def test_connection_after_connection_over_tcp_leaves_nothing_open(
    start: Starter, clients: Clients, keys: Keys, opened: Callable[[Mail, Mail, str], None]
) -> None:
    address = f"inet:{free_port()}@127.0.0.1"
    smilla = start(directory_settings(keys, milter={"socket": address, "workers": 1}))
    before = descriptors(smilla.folder)
    for _ in range(5):
        for _ in range(20):
            mail = plain_mail()
            with clients.open(address) as client:
                answer = client.send(mail, ["<alice@r.test>"])
        opened(answer.applied(mail, postfix=True), mail, "alice")
    # libmilter closes a connection a moment after its client has.
    assert wait_until(lambda: descriptors(smilla.folder) <= before + 9, 30)
