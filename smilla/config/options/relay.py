"""The options of the relay, which does without a milter."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import PORT, option


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """[relay]: SMTP or LMTP in, SMTP out, for whoever has no milter (smilla relay)."""

    socket: str = option(
        "inet:10026@127.0.0.1",
        "Where the MTA connects, in libmilter's notation. Where other machines reach it, tls_certificate and clients "
        "must be set.",
        pattern=rf"(unix|local):/.+|inet6?:{PORT}@.+",
        expected="unix:/PATH or inet:PORT@HOST, with a port from 1 to 65535",
    )
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    clients: tuple[str, ...] = option(
        (),
        "Networks whose machines may send, besides this one. Without auth, none of them may be so wide that it takes "
        "in strangers: whoever is in one sends through next_hop.",
        check="network",
    )
    tls_certificate: str = option(
        "",
        "The relay's own certificate, in PEM, followed by those of its issuers. With it, clients are offered "
        "STARTTLS, with TLS 1.2 or newer. A reload reads it anew.",
        absolute=True,
    )
    tls_key: str = option(
        "",
        "Its private key, in PEM and without a password. Empty: it is in tls_certificate, too.",
        absolute=True,
    )
    tls_required: bool = option(
        True,
        "With tls_certificate: a client must use TLS before it sends (530 5.7.0). false: it may do without, but not if "
        "auth is true and other machines reach the socket.",
    )
    protocol: str = option(
        "smtp",
        "What the MTA speaks there. smtp: one answer for all recipients of a message. lmtp: each recipient has an "
        "answer of their own, so that none holds up the others; one_fails and mixed of [policy] do not count then.",
        choices=("smtp", "lmtp"),
    )
    next_hop: str = option(
        "",
        "HOST:PORT of the server that gets every copy. What it sends on must not come back to this relay. Empty: "
        "smilla relay does not run.",
        pattern=rf"|.+:{PORT}",
        expected="HOST:PORT, with a port from 1 to 65535",
    )
    tls: str = option(
        "none",
        "How the next hop is reached. none: in the clear, for a next hop on loopback only. starttls: only once it has "
        "shown a valid certificate for HOST. tls: the same, with TLS from the first octet (usually port 465).",
        choices=("none", "starttls", "tls"),
    )
    auth: bool = option(
        False,
        "true: for a mail program on this machine. It must log in, which is passed on to the next hop over TLS, and "
        "what it sends goes over that same connection. Names and passwords are neither kept nor logged.",
    )
    ask_recipients: bool = option(
        True,
        "Ask the next hop about each recipient at RCPT, in a transaction without content, so that the client hears "
        "there whom it refuses. false: the client hears it at the end of the message; for a next hop that counts "
        "recipients, or that refuses none.",
    )
    metrics: bool = option(
        True,
        "Count, and answer as [metrics] says. false: where the filter runs with this file, too, and answers there.",
    )
    ca_file: str = option(
        "",
        "The authorities, in PEM, that the next hop is verified with. Empty: those of the system.",
        absolute=True,
    )
    connections: int = option(
        100,
        "The most clients at once; further ones wait. One other machine may have half of them.",
        minimum=1,
        maximum=1000,
    )
    timeout_s: int = option(
        60,
        "Seconds to wait for each reply of the next hop. The reply to the end of a message may take 300.",
        minimum=1,
        maximum=300,
    )
