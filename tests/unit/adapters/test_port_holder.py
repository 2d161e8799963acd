"""Who listens on a port, by a /proc of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.port_holder import holder

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: {address}:{port:04X} 00000000:0000 {state} 0:0 00:0 0     0        0 {inode} 1 0\n"


def process(proc: Path, pid: int, name: str, *sockets: int) -> None:
    place = proc / str(pid)
    (place / "fd").mkdir(parents=True)
    (place / "comm").write_text(f"{name}\n")
    (place / "fd/0").symlink_to("/dev/null")
    for number, inode in enumerate(sockets, 3):
        (place / f"fd/{number}").symlink_to(f"socket:[{inode}]")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    lines = [
        LINE.format(address="0100007F", port=10025, state="0A", inode=71),
        LINE.format(address="0100007F", port=10026, state="01", inode=72),
    ]
    (tmp_path / "net/tcp").write_text(HEAD + "".join(lines))
    (tmp_path / "net/tcp6").write_text(HEAD + LINE.format(address="0" * 32, port=10027, state="0A", inode=73))
    process(tmp_path, 30, "nc", 70, 71, 72)
    process(tmp_path, 200, "exim4", 73)
    (tmp_path / "self").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("port", "told"),
    [(10025, "nc (process 30)"), (10026, ""), (10027, "exim4 (process 200)"), (10028, "")],
)
def test_who_listens_is_named_and_who_is_connected_is_not(proc: Path, port: int, told: str) -> None:
    assert holder(port, proc) == told


def test_what_cannot_be_seen_is_nobody(proc: Path) -> None:
    (proc / "30/comm").unlink()
    assert holder(10025, proc) == ""
    (proc / "net/tcp").write_text("rubbish\nrubbish\n")
    assert holder(10025, proc) == ""
    assert holder(10025, proc / "none") == ""
