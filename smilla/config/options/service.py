"""The options of what serves the MTA and of what it needs: sockets, workers, resolvers, the log."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import option


@dataclass(frozen=True, slots=True)
class MilterOptions:
    """[milter]: the listening socket and the worker processes."""

    socket: str = option(
        "unix:/run/smilla/smilla.sock",
        "Where the MTA connects, in libmilter's notation: unix:PATH or inet:PORT@HOST.",
        pattern=r"(unix|local):/.+|inet6?:\d{1,5}@.+",
        expected="unix:/PATH or inet:PORT@HOST",
    )
    mta: str = option(
        "",
        "The MTA, for mixed where that is empty: postfix or sendmail. Empty: it tells so itself (macro {v}).",
        choices=("", "postfix", "sendmail"),
    )
    workers: int = option(0, "Worker processes; 0 means one per CPU.", minimum=0, maximum=1024)
    timeout_s: int = option(
        7210,
        "Seconds of silence from the MTA after which a connection is dropped. A slow upload leaves it idle for long.",
        minimum=10,
        maximum=86400,
    )
    user: str = option("", "User (and its group) to become when started as root. Empty: stay.")
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    stop_timeout_s: int = option(
        30, "Seconds that messages in flight have to finish after SIGTERM.", minimum=0, maximum=3600
    )


@dataclass(frozen=True, slots=True)
class DNSOptions:
    """[dns]: who answers, and why the answer is believed."""

    nameservers: tuple[str, ...] = option(
        ("127.0.0.1",),
        "Resolvers in order of preference: ADDRESS or ADDRESS@PORT. With dnssec = validate they are forwarded to, "
        "and an empty list means to ask the authoritative name servers.",
        check="nameserver",
    )
    dnssec: str = option(
        "resolver",
        "resolver: believe the AD bit of these nameservers, which must be on loopback; a forwarder there may pass on "
        "somebody else's AD bit, so it has to be a validating resolver itself. validate: validate in process, by "
        "libunbound, whatever the nameservers do.",
        choices=("resolver", "validate"),
    )
    trust_anchor: str = option(
        "/usr/share/dns/root.key", "For dnssec = validate: the trust anchor, zone-file form, DNSKEY or DS."
    )
    timeout_s: float = option(5.0, "Seconds for one message's look-ups together.", minimum=0.1, maximum=60)
    probe: str = option(
        ".", "A zone known to be signed; any answer about it with the AD bit proves that the resolver validates."
    )
    cache_entries: int = option(20000, "Answers that each worker remembers.", minimum=0, maximum=10_000_000)
    cache_mib: int = option(32, "Their size together, in MiB.", minimum=0, maximum=65536)
    cache_ttl_s: int = option(
        3600, "Seconds that an answer is remembered at the most, whatever its TTL.", minimum=0, maximum=86400
    )
    failure_ttl_s: int = option(
        10, "Seconds that a bogus answer or the lack of any is remembered.", minimum=0, maximum=300
    )


@dataclass(frozen=True, slots=True)
class ReinjectOptions:
    """[reinject]: where further copies of a message go."""

    smtp: str = option(
        "127.0.0.1:10025",
        "A listener of the MTA without this milter, which takes mail from smilla only. It must still sign (DKIM).",
        pattern=r".+:\d{1,5}",
        expected="HOST:PORT",
    )
    spool: str = option(
        "/var/lib/smilla",
        "Folder of the journal of copies owed and accepted, with no plaintext, ciphertext or address in it; created "
        "0700 where missing.",
        absolute=True,
    )
    max_copies: int = option(
        100,
        "Recipients for whom encryption is wanted, in one message: each may need a copy of their own. Further ones get "
        "452 4.5.3 at RCPT, so that the sending MTA takes them in another transaction.",
        minimum=1,
        maximum=10000,
    )
    remember_s: int = option(
        432000,
        "Seconds for which the journal remembers which copies of a message were accepted: as long as a client may "
        "try again.",
        minimum=60,
        maximum=31536000,
    )
    timeout_s: int = option(
        60,
        "Seconds to wait for each reply of the listener, save that to the end of a message, which may take 300.",
        minimum=1,
        maximum=300,
    )


@dataclass(frozen=True, slots=True)
class StageOptions:
    """[stage]: where Postfix hands over what has to be split (mixed = stage)."""

    socket: str = option(
        "unix:/var/spool/postfix/smilla/stage.sock",
        "Where the MTA's LMTP client connects, in libmilter's notation. Debian's is chrooted to /var/spool/postfix. "
        "inet on loopback only.",
        pattern=r"(unix|local):/.+|inet6?:\d{1,5}@.+",
        expected="unix:/PATH or inet:PORT@HOST",
    )
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    keys: str = option(
        "/var/lib/smilla/seal",
        "Folder of the keys under which messages are sealed while they wait in the MTA's queue; made 0700 where it is "
        "missing. Keep a backup: without its key a sealed message cannot be opened by anybody.",
        absolute=True,
    )
    key_days: int = option(
        90, "Days after which a new key seals; the old ones go on opening.", minimum=1, maximum=36500
    )
    check: bool = option(
        True,
        "Seal only while Postfix is known to have the lines that lead to the stage: smilla config check --postfix "
        "looks. false: nobody looks, where Postfix is on another machine.",
    )
    message_size_limit: int = option(
        0,
        "Octets that the MTA takes (Postfix: message_size_limit). A message whose sealed form, 1.37 times as large and "
        "a little more, or a copy of which would be larger is refused in the dialogue (552 5.3.4). 0: what the "
        "listener of [reinject] says of SIZE; where it does not say, nothing is known, and the MTA itself refuses.",
        minimum=0,
        maximum=2**53,
    )
    connections: int = option(
        20, "Messages that are split at once, at the most; further ones wait.", minimum=1, maximum=1000
    )


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """[spool]: where large bodies are kept while a message is handled."""

    threshold_kib: int = option(
        256,
        "Bodies up to this size, in KiB, are kept in memory; larger ones go, in blocks of 256 KiB, to a file without a "
        "name, encrypted there with a key that exists in memory only.",
        minimum=0,
        maximum=1_048_576,
    )
    folder: str = option(
        "/var/tmp",  # noqa: S108 - the file has no name, and is ciphertext
        "Folder of these files. It needs room for the bodies that are under way at once.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """[log]: where the log goes."""

    level: str = option("info", "The least that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = option("text", "text or json, one line an event.", choices=("text", "json"))
    target: str = option("stderr", "stderr, or syslog's mail facility.", choices=("stderr", "syslog"))
