"""The options of decryption: the milter that decrypts for some recipients, and whose keys it has."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import PORT, option


@dataclass(frozen=True, slots=True)
class DecryptOptions:
    """[decrypt]: smilla decrypt, the milter for recipients whose mail is read centrally. See smilla-decrypt(8)."""

    socket: str = option(
        "unix:/run/smilla-decrypt/decrypt.sock",
        "Where the MTA connects, in libmilter's notation: unix:PATH, or inet:PORT@HOST on loopback only.",
        pattern=rf"(unix|local):/.+|inet6?:{PORT}@.+",
        expected="unix:/PATH or inet:PORT@HOST, with a port from 1 to 65535",
    )
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    user: str = option(
        "",
        "User (and its group) to become if started as root; not the one of [milter], which needs no private key. "
        "Empty: stay.",
    )
    status: str = option(
        "",
        "The UNIX socket that smilla status asks, with /metrics for a scraper. Empty: status.sock beside socket; if "
        "that is inet, none.",
        absolute=True,
    )
    workers: int = option(1, "Worker processes.", minimum=1, maximum=64)
    authserv_id: str = option(
        "",
        "The name of this mail server in the Authentication-Results field (RFC 8601) that says what was done. Empty: "
        "the name that the MTA gives itself.",
        pattern=r"|[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?",
        expected="a host name such as mx.example.org",
    )
    html: str = option(
        "strip",
        "What becomes of HTML in S/MIME content that nothing authenticates (EnvelopedData), since somebody on the way "
        "may have changed it so that it sends the text elsewhere (EFAIL). strip: links, scripts, styles and whatever "
        "is loaded are removed, which needs a further package: pip install smilla[decrypt]; the Debian package has "
        "it; what takes more than ten seconds to clean is handed on as with text. text: it is handed on as text/plain, "
        "with its tags. keep: it stays as it is.",
        choices=("strip", "text", "keep"),
    )
    max_mib: int = option(
        50,
        "Messages larger than this, in MiB, stay encrypted, and so do those whose content is. Decrypting takes some "
        "five times the size in memory.",
        minimum=1,
        maximum=1024,
    )


@dataclass(frozen=True, slots=True)
class DecryptRule:
    """[[decrypt_rule]]: for these recipients mail is decrypted, with these keys."""

    recipient: str = option(
        "",
        "Shell pattern for the recipient's address, as in [[rule]]. Nothing else is ever decrypted.",
        check="pattern",
    )
    key_files: tuple[str, ...] = option(
        (),
        "Files with private keys: PKCS #12, or PEM with key and certificate, for S/MIME; OpenPGP secret keys, binary "
        "or armoured. Others on this machine must not be able to read them.",
        absolute=True,
    )
    password_file: str = option(
        "", "The file whose first line is the password of all key_files. Empty: they have none.", absolute=True
    )
    gnupg_home: str = option(
        "",
        "The home of a gpg whose agent has OpenPGP secret keys. It belongs to the user of [decrypt], and the agent "
        "must not need to ask for a passphrase.",
        absolute=True,
    )
    fingerprints: tuple[str, ...] = option(
        (),
        "Fingerprints of the primary keys in gnupg_home that count for these recipients. Empty: every key there.",
        check="fingerprint",
    )
