"""The relay's next hop over TLS, played by the laboratory: without a valid certificate it hears of no message."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from smilla import config
from smilla.adapters.smtp import Listener
from smilla.errors import ConfigError, ReinjectError
from smilla.model import Client, Recipient, Submission
from smilla.server.next_hop import NextHop
from smilla.server.runtime import make_next_hop
from tests.lab.loopback_tls import HERE, OTHER, ROOT, authorities, context
from tests.lab.sink import Sink

if TYPE_CHECKING:
    import socket

ALICE = Recipient("<alice@r.test>", None)
SUBMISSION = Submission("s@s.test", (), (ALICE,), lambda: iter([b"X: the canary\r\n\r\nbody\r\n"]), Client(), "4Q")


class TLSSink(Sink):
    """With TLS from the first octet."""

    context: ssl.SSLContext

    def talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            super().talk(self.context.wrap_socket(connection, server_side=True))


def next_hop(folder: Path, port: int, tls: str) -> NextHop:
    path = authorities(folder)
    lines = f'[relay]\nnext_hop = "127.0.0.1:{port}"\ntls = "{tls}"\nca_file = "{path}"\ntimeout_s = 5\n'
    return make_next_hop(config.parse(lines))


@pytest.fixture(params=["starttls", "tls"])
def tls(request: pytest.FixtureRequest) -> Iterator[str]:
    yield str(request.param)


@contextlib.contextmanager
def server(kind: str, secure: ssl.SSLContext) -> Iterator[Sink]:
    sink = TLSSink() if kind == "tls" else Sink(tls=secure)
    if isinstance(sink, TLSSink):
        sink.context = secure
    with sink:
        yield sink


def test_copies_go_to_a_next_hop_with_a_valid_certificate_several_over_one_connection(tmp_path: Path, tls: str) -> None:
    with server(tls, context(tmp_path, HERE)) as sink:
        hop = next_hop(tmp_path, sink.port, tls)
        assert "8BITMIME" in hop.offer().keywords
        with hop.connect() as connection:
            for _ in range(2):
                assert connection.send(SUBMISSION, lambda _: None).accepted == (ALICE,)
        assert [mail.rcpt_to for mail in sink.messages] == [("alice@r.test",)] * 2
        assert tls == "tls" or all(mail.over_tls for mail in sink.messages)


@pytest.mark.parametrize(("names", "issuer"), [([x509.DNSName("127.0.0.1.example")], ROOT), ([], ROOT), (HERE, OTHER)])
def test_certificate_for_another_name_or_by_another_authority_is_refused(
    tmp_path: Path, tls: str, names: Sequence[x509.GeneralName], issuer: tuple[object, bytes]
) -> None:
    heard: list[bytes] = []
    with server(tls, context(tmp_path, names, issuer)) as sink:
        sink.answer = heard.append
        hop = next_hop(tmp_path, sink.port, tls)
        with pytest.raises(ReinjectError, match="certificate"):
            hop.offer()
        with pytest.raises(ReinjectError, match="certificate"), hop.connect():
            pass
    assert {line[:8].upper().split()[0] for line in heard} <= {b"EHLO", b"STARTTLS"}
    assert not sink.messages


@pytest.mark.parametrize("answer", [None, b"454 4.7.0 not now", b"500 what"])
def test_next_hop_that_does_not_begin_tls_hears_nothing_of_a_message(tmp_path: Path, answer: bytes | None) -> None:
    """Whoever strips the offer on the way gains nothing."""
    with Sink(tls=context(tmp_path, HERE) if answer else None) as sink:
        sink.answer = lambda line: answer if line.upper() == b"STARTTLS" else None
        with pytest.raises(ReinjectError), next_hop(tmp_path, sink.port, "starttls").connect():
            pass
        assert not sink.messages


def test_without_anything_that_verifies_nobody_speaks_tls() -> None:
    with pytest.raises(ReinjectError, match="verifies"):
        Listener("127.0.0.1:25", 5, "starttls")


def test_file_of_authorities_that_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    lines = f'[relay]\nnext_hop = "mx.test:25"\ntls = "tls"\nca_file = "{tmp_path}/ca.pem"\n'
    with pytest.raises(ConfigError, match=r"\[relay\] ca_file"):
        make_next_hop(config.parse(lines))
