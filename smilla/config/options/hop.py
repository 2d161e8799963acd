"""The options of the hop to the next mail server: where it is verified, and the closed networks of one authority."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import CA_FILE, PORT, option


@dataclass(frozen=True, slots=True)
class HopOptions:
    """[hop]: TLS to the recipient's mail servers that nobody on the way can strip, and what Postfix is told of it."""

    mta_sts: str = option(
        "enforce",
        "Whether an MTA-STS policy verifies a hop. enforce: one in mode enforce. testing: one in mode testing as well, "
        "which RFC 8461 does not ask for. off: none; then only DANE and circles do.",
        choices=("enforce", "testing", "off"),
    )
    ca_file: str = option(
        CA_FILE,
        "The authorities, in PEM, that the web servers of MTA-STS policies and the mail servers under such a policy "
        "are verified with.",
        absolute=True,
    )
    socket: str = option(
        "unix:/var/spool/postfix/smilla/tls.sock",
        "Where Postfix asks how it must protect the connection for a domain (smtp_tls_policy_maps = "
        "socketmap:unix:...), in libmilter's notation. Debian's client is chrooted to /var/spool/postfix. inet on "
        "loopback only.",
        pattern=rf"(unix|local):/.+|inet6?:{PORT}@.+",
        expected="unix:/PATH or inet:PORT@HOST, with a port from 1 to 65535",
    )
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    policy_server: bool = option(
        False,
        "Answer on that socket for all of Postfix's mail as well (the map named policy), not only for the mail that "
        "secure-hop sends.",
    )
    unknown: str = option(
        "defer",
        "What the map named policy says where nobody can know now whether a domain has DANE or MTA-STS. defer: Postfix "
        "keeps the mail. opportunistic: Postfix delivers as if there were none. The mail that secure-hop sends is "
        "always kept.",
        choices=("defer", "opportunistic"),
    )
    attributes: bool = option(
        False,
        "Give the policy's attributes for TLSRPT reports (policy_type and others). Postfix 3.10 and newer take them; "
        "older ones refuse the whole answer.",
    )


@dataclass(frozen=True, slots=True)
class Circle:
    """[[circle]]: a closed network of mail servers that trust one authority."""

    name: str = option(
        "",
        "What log lines and headers call it: letters, digits, - and _.",
        pattern=r"[\w-]{1,40}",
        expected="a name of letters, digits, - and _",
    )
    domains: tuple[str, ...] = option(
        (),
        "The domains inside: names or shell patterns (*.example.org). Mail for them goes over no other hop, whatever "
        "DANE and MTA-STS say. Where two circles name a domain, the first has it.",
        check="domain",
    )
    ca_file: str = option(
        "",
        "The circle's own authorities, in PEM. No other authority counts. Postfix reads the file too.",
        absolute=True,
    )
    match: tuple[str, ...] = option(
        (),
        "The names that the servers' certificates may bear: mail.example.org, or .example.org for every name below it. "
        "Empty: the recipient's domain, and every name below it.",
        check="match",
    )
