"""The options of the services: sockets, workers, resolvers, the log."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import PORT, option


@dataclass(frozen=True, slots=True)
class MilterOptions:
    """[milter]: the listening socket and the worker processes."""

    socket: str = option(
        "unix:/run/smilla/smilla.sock",
        "Where the MTA connects, in libmilter's notation: unix:PATH or inet:PORT@HOST.",
        pattern=rf"(unix|local):/.+|inet6?:{PORT}@.+",
        expected="unix:/PATH or inet:PORT@HOST, with a port from 1 to 65535",
    )
    mta: str = option(
        "",
        "The MTA, postfix or sendmail, which sets the default of mixed. Empty: the MTA says what it is (macro {v}).",
        choices=("", "postfix", "sendmail"),
    )
    workers: int = option(0, "Worker processes; 0 means one per CPU.", minimum=0, maximum=1024)
    timeout_s: int = option(
        7210,
        "Drop a connection after this many seconds of silence from the MTA. During a slow upload it is idle for a "
        "long time.",
        minimum=10,
        maximum=86400,
    )
    user: str = option("", "User (and its group) to become if started as root. Empty: stay.")
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    message_size_limit: int = option(
        0,
        "The largest message that the MTA takes, in octets (Postfix: message_size_limit). A message that is sure to be "
        "larger once it is encrypted is refused before the work is done (552 5.3.4). 0: what smilla config check "
        "--postfix found; if nobody has looked, or Postfix's files have changed since, the MTA itself has to refuse.",
        minimum=0,
        maximum=2**53,
    )
    stop_timeout_s: int = option(
        30, "Seconds that messages in flight have to finish after SIGTERM.", minimum=0, maximum=3600
    )


@dataclass(frozen=True, slots=True)
class DNSOptions:
    """[dns]: who answers, and why the answer is believed."""

    nameservers: tuple[str, ...] = option(
        ("127.0.0.1",),
        "Resolvers in order of preference: ADDRESS or ADDRESS@PORT. With dnssec = validate, smilla forwards to them, "
        "and an empty list means to ask the authoritative name servers.",
        check="nameserver",
    )
    dnssec: str = option(
        "resolver",
        "resolver: believe the AD bit of these nameservers, which must be on loopback. Each must be a validating "
        "resolver itself, because a forwarder may pass on somebody else's AD bit. validate: validate in process with "
        "libunbound, whatever the nameservers do.",
        choices=("resolver", "validate"),
    )
    trust_anchor: str = option(
        "/usr/share/dns/root.key", "For dnssec = validate: the trust anchor in zone-file form, DNSKEY or DS."
    )
    timeout_s: float = option(5.0, "Seconds for all look-ups of one message together.", minimum=0.1, maximum=60)
    probe: str = option(
        ".",
        "A zone known to be signed. Any answer about it with the AD bit proves that the resolver validates.",
        pattern=r"\.|(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?",
        expected='the name of a zone such as "org." or, for the root, "."',
    )
    cache_entries: int = option(20000, "Answers that each worker remembers.", minimum=0, maximum=10_000_000)
    cache_mib: int = option(
        32,
        "Their total size in each worker, in MiB. Half of it is for the answers, half for smilla's judgements of the "
        "keys in them. When a half is full, what was used least recently is forgotten. A source that is asked over the "
        "web takes up to a quarter more.",
        minimum=0,
        maximum=65536,
    )
    cache_ttl_s: int = option(
        3600, "The most seconds to remember an answer, whatever its TTL.", minimum=0, maximum=86400
    )
    failure_ttl_s: int = option(10, "Seconds to remember that an answer was bogus or missing.", minimum=0, maximum=300)


@dataclass(frozen=True, slots=True)
class ReinjectOptions:
    """[reinject]: where further copies of a message go."""

    smtp: str = option(
        "127.0.0.1:10025",
        "A listener of the MTA without this milter, which takes mail from smilla only. It must still sign (DKIM).",
        pattern=rf".+:{PORT}",
        expected="HOST:PORT, with a port from 1 to 65535",
    )
    secure_smtp: str = option(
        "127.0.0.1:10027",
        "A second such listener, for copies that may leave over a verified hop only (secure-hop). All that it takes "
        "goes through a transport of Postfix that knows no clear text.",
        pattern=rf".+:{PORT}",
        expected="HOST:PORT, with a port from 1 to 65535",
    )
    spool: str = option(
        "/var/lib/smilla",
        "Folder of the journal, which records the copies owed and accepted. It holds no plaintext, ciphertext or "
        "address. Created 0700 if missing.",
        absolute=True,
    )
    max_copies: int = option(
        100,
        "The most recipients of one message for whom encryption is wanted: each may need a copy of their own. Further "
        "recipients get 452 4.5.3 at RCPT, so that the sending MTA sends to them in another transaction.",
        minimum=1,
        maximum=10000,
    )
    remember_s: int = option(
        432000,
        "Seconds that the journal remembers which copies of a message were accepted: as long as a client may retry.",
        minimum=60,
        maximum=31536000,
    )
    timeout_s: int = option(
        60,
        "Seconds to wait for each reply of the listener. The reply to the end of a message may take 300.",
        minimum=1,
        maximum=300,
    )


@dataclass(frozen=True, slots=True)
class StageOptions:
    """[stage]: where Postfix hands over messages to split (mixed = stage)."""

    socket: str = option(
        "unix:/var/spool/postfix/smilla/stage.sock",
        "Where the MTA's LMTP client connects, in libmilter's notation. Debian's client is chrooted to "
        "/var/spool/postfix. inet on loopback only.",
        pattern=rf"(unix|local):/.+|inet6?:{PORT}@.+",
        expected="unix:/PATH or inet:PORT@HOST, with a port from 1 to 65535",
    )
    socket_group: str = option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    keys: str = option(
        "/var/lib/smilla/seal",
        "Folder of the keys that seal messages while they wait in the MTA's queue. Created 0700 if missing. Keep a "
        "backup: without its key, nobody can open a sealed message.",
        absolute=True,
    )
    key_days: int = option(
        90, "Days until a new key takes over sealing. The old ones still open messages.", minimum=1, maximum=36500
    )
    check: bool = option(
        True,
        "Seal only while Postfix is known to have the lines that lead to the stage; smilla config check --postfix "
        "looks. false: nobody looks, for a Postfix on another machine.",
    )
    message_size_limit: int = option(
        0,
        "The largest message that the MTA takes, in octets (Postfix: message_size_limit). The sealed form and "
        "encrypted copies are a little more than 1.37 times as large as the message. If one would exceed the limit, "
        "smilla refuses the message in the dialogue (552 5.3.4). 0: what the listener of [reinject] says of SIZE; if "
        "it says nothing, the MTA itself has to refuse.",
        minimum=0,
        maximum=2**53,
    )
    connections: int = option(20, "The most messages to split at once; further ones wait.", minimum=1, maximum=1000)


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """[spool]: where large bodies stay while a message is handled."""

    threshold_kib: int = option(
        256,
        "Bodies up to this size, in KiB, stay in memory. Larger ones go, in blocks of 256 KiB, to a file without a "
        "name, encrypted with a key that exists only in memory.",
        minimum=0,
        maximum=1_048_576,
    )
    folder: str = option(
        "/var/tmp",  # noqa: S108 - the file has no name, and is ciphertext
        "Folder of these files. It needs room for all bodies that are handled at once.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class WebOptions:
    """[web]: the status page for a browser."""

    listen: str = option(
        "",
        "Where a browser finds the status page: ADDRESS:PORT on loopback, such as 127.0.0.1:9470. Empty: nowhere. It "
        "needs further packages: pip install smilla[web]; the Debian package has them. See smilla-web(7).",
        pattern=rf"|([0-9.]+|\[[0-9A-Fa-f:.]+\]):{PORT}",
        expected="ADDRESS:PORT, with an IPv6 address in brackets and a port from 1 to 65535",
    )
    token_file: str = option(
        "",
        "The file with the token that opens the page, readable by smilla's user only. If it is missing, smilla makes "
        "one. Empty: web.token in [reinject] spool.",
        absolute=True,
    )
    hosts: tuple[str, ...] = option(
        (),
        "Further host names of the page, if a reverse proxy with TLS is in front of it. localhost, 127.0.0.1 and [::1] "
        "always are.",
        check="host",
    )
    domains: bool = option(
        False,
        "true: the page also shows how much went to each domain. That tells who writes to whom.",
    )
    lookups_per_minute: int = option(
        10,
        "So many look-ups in a minute the form of the page allows, for all visitors together.",
        minimum=0,
        maximum=1000,
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """[log]: where the log goes."""

    level: str = option("info", "The lowest level that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = option("text", "text or json, one line per event.", choices=("text", "json"))
    target: str = option(
        "stderr",
        "stderr, syslog's mail facility, or journal: journald's own socket, where each line also has fields "
        "(SMILLA_EVENT, SMILLA_QUEUE_ID, SMILLA_RECIPIENT, SMILLA_ACTION and others). All three carry the priority if "
        "stderr is journald's.",
        choices=("stderr", "syslog", "journal"),
    )


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """[metrics]: what smilla counts, for Prometheus, and for smilla status and smilla top."""

    listen: str = option(
        "",
        "Where Prometheus reads /metrics: unix:PATH, or ADDRESS:PORT such as 127.0.0.1:9469. Empty: nowhere. Metrics "
        "never have a domain or an address.",
        pattern=rf"|(unix|local):/.+|([0-9.]+|\[[0-9A-Fa-f:.]+\]):{PORT}",
        expected="unix:/PATH or ADDRESS:PORT, with an IPv6 address in brackets and a port from 1 to 65535",
    )
    loopback_only: bool = option(
        True,
        "false: listen may be an address that other machines reach. Whoever reaches it sees how much mail comes.",
    )
    status: str = option(
        "",
        "The UNIX socket that smilla status and smilla top ask. Empty: status.sock in [reinject] spool.",
        absolute=True,
    )
    socket_group: str = option("", "Group of both UNIX sockets. Empty: the group of the process.")
    socket_mode: str = option(
        "0660", "Mode of both UNIX sockets, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
