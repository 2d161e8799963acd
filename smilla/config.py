"""Every option once: its name, type, default, bounds and help.

The configuration file, its errors, ``smilla config sample`` and smilla.toml(5) are all made from the dataclasses
below.  Promises: ``load`` either returns a configuration without a fault or raises ConfigError with every fault
that was found, each naming its key (and line, where it is known) and the nearest known key; environment variables
configure nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import grp
import ipaddress
import pwd
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from smilla import address
from smilla.errors import AddressError, ConfigError

DEFAULT_PATH = "/etc/smilla/smilla.toml"
_FAILURE_ACTIONS = ("plain", "defer", "refuse", "hold")
_NEVER_PLAIN = ("defer", "refuse", "hold")
SOURCES = ("smimea", "openpgpkey", "directory")


def _option(default: Any, help_text: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **bounds})


@dataclass(frozen=True, slots=True)
class MilterOptions:
    """[milter]: the listening socket and the worker processes."""

    socket: str = _option(
        "unix:/run/smilla/smilla.sock",
        "Where the MTA connects, in libmilter's notation: unix:PATH or inet:PORT@HOST.",
        pattern=r"(unix|local):/.+|inet6?:\d{1,5}@.+",
        expected="unix:/PATH or inet:PORT@HOST",
    )
    workers: int = _option(0, "Worker processes; 0 means one per CPU.", minimum=0, maximum=1024)
    timeout_s: int = _option(
        7210,
        "Seconds of silence from the MTA after which a connection is dropped. A slow upload leaves it idle for long.",
        minimum=10,
        maximum=86400,
    )
    user: str = _option("", "User (and its group) to become when started as root. Empty: stay.")
    socket_group: str = _option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = _option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    stop_timeout_s: int = _option(
        30, "Seconds that messages in flight have to finish after SIGTERM.", minimum=0, maximum=3600
    )


@dataclass(frozen=True, slots=True)
class DNSOptions:
    """[dns]: who answers, and why the answer is believed."""

    nameservers: tuple[str, ...] = _option(
        ("127.0.0.1",),
        "Resolvers in order of preference: ADDRESS or ADDRESS@PORT. With dnssec = validate they are forwarded to, "
        "and an empty list means to ask the authoritative name servers.",
        check="nameserver",
    )
    dnssec: str = _option(
        "resolver",
        "resolver: believe the AD bit of these nameservers, which must be on loopback; a forwarder there may pass on "
        "somebody else's AD bit, so it has to be a validating resolver itself. validate: validate in process, by "
        "libunbound, whatever the nameservers do.",
        choices=("resolver", "validate"),
    )
    trust_anchor: str = _option(
        "/usr/share/dns/root.key", "For dnssec = validate: the trust anchor, zone-file form, DNSKEY or DS."
    )
    timeout_s: float = _option(5.0, "Seconds for one message's look-ups together.", minimum=0.1, maximum=60)
    probe: str = _option(
        ".", "A zone known to be signed; any answer about it with the AD bit proves that the resolver validates."
    )
    cache_entries: int = _option(20000, "Answers that each worker remembers.", minimum=0, maximum=10_000_000)
    cache_mib: int = _option(32, "Their size together, in MiB.", minimum=0, maximum=65536)
    cache_ttl_s: int = _option(
        3600, "Seconds that an answer is remembered at the most, whatever its TTL.", minimum=0, maximum=86400
    )
    failure_ttl_s: int = _option(
        10, "Seconds that a bogus answer or the lack of any is remembered.", minimum=0, maximum=300
    )


@dataclass(frozen=True, slots=True)
class KeysOptions:
    """[keys]: where keys come from."""

    sources: tuple[str, ...] = _option(
        ("smimea", "openpgpkey"), "Sources in order of preference: smimea, openpgpkey, directory.", each=SOURCES
    )
    try_lowercase: bool = _option(False, "Where the exact local part has no record, ask for its lower-case form too.")
    directory: str = _option(
        "",
        "Folder of the directory source: ADDRESS.crt or .pem before ADDRESS.asc or .pgp. The file's name is the "
        "administrator's word for the address, so the key need not name it.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class SMIMEOptions:
    """[smime]: how CMS is written."""

    cipher: str = _option(
        "aes256-cbc",
        "Content encryption. aes256-gcm (AuthEnvelopedData) opens in few clients.",
        choices=("aes256-cbc", "aes128-cbc", "aes256-gcm"),
    )
    rsa_padding: str = _option(
        "pkcs1",
        "Key transport to RSA certificates. oaep-sha256 does not open in GnuPG and older NSS.",
        choices=("pkcs1", "oaep-sha256"),
    )
    ca_file: str = _option(
        "",
        "PEM trust store for SMIMEA usages 0 and 1, which are unusable without it, save where a record of usage 2 in "
        "the same answer names their CA.",
        absolute=True,
    )
    crl_file: str = _option(
        "",
        "Certificate revocation lists, PEM or DER, read at start and at reload. Every certificate of a path (SMIMEA "
        "usages 0 and 1) whose issuer has a list here is checked; with a list that is out of date it counts as "
        "unreachable. Not checked: certificates without a list here, those of usage 3 and of the directory, OCSP; "
        "nothing is fetched. Empty: none is checked.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class OpenPGPOptions:
    """[openpgp]: how OpenPGP is written."""

    engine: str = _option(
        "auto",
        "sequoia: in process, through pysequoia; gnupg: the gpg program; auto: the first that is there.",
        choices=("auto", "sequoia", "gnupg"),
    )


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """[policy]: what each failure does."""

    no_key: str = _option(
        "plain",
        "Proven absence, or a zone that is provably not signed and has no other key.",
        choices=_FAILURE_ACTIONS,
    )
    insecure: str = _option("plain", "A key was found but its zone is not signed.", choices=_FAILURE_ACTIONS)
    bogus: str = _option(
        "defer",
        "Forged or indeterminate, a name under no trust anchor, a resolver that fails the probe.",
        choices=_NEVER_PLAIN,
    )
    unreachable: str = _option("defer", "Time-out, SERVFAIL, no nameserver.", choices=_NEVER_PLAIN)
    unusable_key: str = _option(
        "",
        "Meant for encryption, but expired, revoked, for another address, too weak or malformed. "
        "Empty: refuse outbound, defer inbound.",
        choices=("", *_FAILURE_ACTIONS),
    )
    mixed: str = _option(
        "reinject",
        "Recipients that need different bytes. Until re-injection lands, reinject defers such a message.",
        choices=("reinject", "defer", "refuse"),
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """[[rule]]: the first that matches a recipient overrides the [policy] keys that it names."""

    recipient: str = _option(
        "", "Shell pattern for the recipient's address; its domain without regard to case.", check="pattern"
    )
    sender: str = _option(
        "", "Shell pattern for the envelope sender; <> is the null sender. With recipient: both match.", check="pattern"
    )
    no_key: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))
    insecure: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))
    bogus: str = _option("", "As in [policy].", choices=("", *_NEVER_PLAIN))
    unreachable: str = _option("", "As in [policy].", choices=("", *_NEVER_PLAIN))
    unusable_key: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))


@dataclass(frozen=True, slots=True)
class ReinjectOptions:
    """[reinject]: where further copies of a message go."""

    smtp: str = _option(
        "127.0.0.1:10025",
        "A listener of the MTA without this milter. Not used yet.",
        pattern=r".+:\d{1,5}",
        expected="HOST:PORT",
    )
    spool: str = _option(
        "/var/lib/smilla", "Folder of the journal; created 0700 where missing. Not used yet.", absolute=True
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """[log]: where the log goes."""

    level: str = _option("info", "The least that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = _option("text", "text or json, one line an event.", choices=("text", "json"))
    target: str = _option("stderr", "stderr, or syslog's mail facility.", choices=("stderr", "syslog"))


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, immutable: a reload makes another one."""

    observe: bool = _option(False, "Decide and log, change nothing; for the first weeks.")
    mode: str = _option(
        "outbound",
        "outbound: protect mail on its way; inbound: protect mail at rest; auto: outbound where {auth_authen} is set, "
        "{daemon_name} is ORIGINATING or the client is in internal_networks, else inbound.",
        choices=("outbound", "inbound", "auto"),
    )
    local_domains: tuple[str, ...] = _option(
        (),
        "Names or shell patterns (*.example.org). Inbound mode encrypts for recipients in these only (empty: a "
        "fault), outbound for all others (empty: for all); in auto, mail from here to here is inbound.",
        check="domain",
    )
    internal_networks: tuple[str, ...] = _option(
        ("127.0.0.0/8", "::1"), "Clients whose mail is outbound in mode auto.", check="network"
    )
    append_origin: str = _option(
        "",
        "The domain that the MTA appends to a recipient without one (Postfix: myorigin). Empty: the first of "
        "local_domains that is no pattern.",
        check="origin",
    )
    milter: MilterOptions = MilterOptions()
    dns: DNSOptions = DNSOptions()
    keys: KeysOptions = KeysOptions()
    smime: SMIMEOptions = SMIMEOptions()
    openpgp: OpenPGPOptions = OpenPGPOptions()
    policy: PolicyOptions = PolicyOptions()
    rule: tuple[Rule, ...] = ()
    reinject: ReinjectOptions = ReinjectOptions()
    log: LogOptions = LogOptions()

    @property
    def origin(self) -> str:
        """The domain of recipients without one, "" where it is not known."""
        names = (name for name in self.local_domains if not set(name) & set("*?["))
        return self.append_origin or next(names, "")


SECTIONS: dict[str, type[Any]] = {
    "milter": MilterOptions,
    "dns": DNSOptions,
    "keys": KeysOptions,
    "smime": SMIMEOptions,
    "openpgp": OpenPGPOptions,
    "policy": PolicyOptions,
    "rule": Rule,
    "reinject": ReinjectOptions,
    "log": LogOptions,
}


def options(section: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The options of one section by name, sections and rules left out."""
    return {f.name: f for f in dataclasses.fields(section) if "help" in f.metadata}


def load(path: Path) -> Config:
    """Reads and checks the file.  Raises ConfigError with every fault."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 at octet {error.start}"]) from error
    return parse(text, str(path))


def parse(text: str, name: str = "configuration") -> Config:
    """The configuration that ``text`` (TOML) describes.  Raises ConfigError with every fault."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: is not TOML: {error}"]) from error
    reader = _Reader(text, name)
    config = reader.config(document)
    if not reader.faults:
        reader.check_together(config)
    if reader.faults:
        raise ConfigError(reader.faults)
    return config


class _Reader:
    """Turns a TOML document into a Config, collecting faults instead of stopping at the first."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.splitlines()
        self._name = name
        self.faults: list[str] = []

    def config(self, document: dict[str, Any]) -> Config:
        values: dict[str, Any] = {}
        top = {key: value for key, value in document.items() if key not in SECTIONS}
        values.update(self._section(Config, "", top))
        for section, kind in SECTIONS.items():
            if section in document:
                values[section] = self._table(section, kind, document[section])
        return Config(**values)

    def _table(self, section: str, kind: type[Any], value: Any) -> Any:
        if kind is Rule:
            return self._rules(value)
        if not isinstance(value, dict):
            self._fault(section, "", f"must be a table: write [{section}] and its keys below")
            return kind()
        return kind(**self._section(kind, section, value))

    def _rules(self, value: Any) -> tuple[Rule, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._fault("rule", "", "must be an array of tables: write [[rule]] and its keys below")
            return ()
        rules = []
        for number, table in enumerate(value, 1):
            rule = Rule(**self._section(Rule, "rule", table))
            if not table.get("recipient") and not table.get("sender"):
                self.faults.append(f"{self._name}: rule {number} names neither recipient nor sender")
            rules.append(rule)
        return tuple(rules)

    def _section(self, kind: type[Any], section: str, table: dict[str, Any]) -> dict[str, Any]:
        known = options(kind)
        types = get_type_hints(kind)
        values = {}
        for key, value in table.items():
            if key not in known:
                self._fault(key, section, self._unknown(key, section, isinstance(value, dict)))
                continue
            problem, converted = _convert(value, types[key], known[key].metadata)
            if problem:
                self._fault(key, section, f"is {value!r}, but must be {problem}")
            else:
                values[key] = converted
        return values

    @staticmethod
    def _unknown(key: str, section: str, is_table: bool) -> str:
        names = {f"[{s}] {n}": n for s, kind in SECTIONS.items() for n in options(kind)}
        names.update({n: n for n in options(Config)})
        here = [*options(SECTIONS[section] if section else Config), *(() if section else SECTIONS)]
        elsewhere = [where for where, name in names.items() if name == key]
        if not elsewhere and (near := difflib.get_close_matches(key, here, 1, 0.5)):
            return f"is unknown; did you mean {near[0]}?"
        near = elsewhere or [w for w, n in names.items() if difflib.get_close_matches(key, [n], 1, 0.6)]
        kind = "table" if is_table else "key"
        return f"is an unknown {kind}; the nearest known one is {near[0]}" if near else f"is an unknown {kind}"

    def _fault(self, key: str, section: str, problem: str) -> None:
        line = self._line(key, section)
        where = f"{self._name}:{line}" if line else self._name
        self.faults.append(f"{where}: {f'[{section}] ' if section else ''}{key} {problem}")

    def _line(self, key: str, section: str) -> int:
        current = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\[?\s*([\w.\"-]+)\s*\]", line):
                current = header[1]
                if current == key and not section:
                    return number
            elif current == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        return 0

    def check_together(self, config: Config) -> None:
        """The faults that no key has alone."""
        if config.mode != "outbound" and not config.local_domains:
            self._fault("local_domains", "", f'is empty, but mode = "{config.mode}" encrypts for these domains only')
        if config.dns.dnssec == "validate" and not Path(config.dns.trust_anchor).is_file():
            self._fault("trust_anchor", "dns", f'is "{config.dns.trust_anchor}", which is no file (apt: dns-root-data)')
        if config.dns.dnssec == "resolver" and not config.dns.nameservers:
            self._fault("nameservers", "dns", 'is empty, but dnssec = "resolver" needs a validating resolver')
        for server in config.dns.nameservers:
            if config.dns.dnssec == "resolver" and not nameserver(server)[0].is_loopback:
                self._fault(
                    "nameservers",
                    "dns",
                    f'has {server}, which is not on loopback: with dnssec = "resolver" its AD bit could be forged on '
                    "the way; run a validating resolver (unbound) on this machine",
                )
        if "directory" in config.keys.sources and not Path(config.keys.directory or "/nonexistent").is_dir():
            self._fault("directory", "keys", f'is "{config.keys.directory}", which is no folder, but is among sources')
        self._check_socket(config.milter)
        if config.smime.ca_file and not Path(config.smime.ca_file).is_file():
            self._fault("ca_file", "smime", f'is "{config.smime.ca_file}", which is no file')
        if config.smime.crl_file and not Path(config.smime.crl_file).is_file():
            self._fault("crl_file", "smime", f'is "{config.smime.crl_file}", which is no file')

    def _check_socket(self, options: MilterOptions) -> None:
        """What only this machine knows: users, groups, and how long a path may be."""
        for name, known in (("user", pwd.getpwnam), ("socket_group", grp.getgrnam)):
            try:
                value = getattr(options, name)
                _ = known(value) if value else None
            except KeyError:
                self._fault(name, "milter", f'is "{value}", which this machine does not know; useradd --system {value}')
        path = options.socket.partition(":")[2]
        if options.socket.startswith(("unix:", "local:")) and len(path.encode()) > _path_limit():
            self._fault("socket", "milter", f"has a path of {len(path.encode())} octets; at most {_path_limit()} do")


def _path_limit() -> int:
    """Octets that a UNIX socket's path may have (unix(7)), less those of the private name it gets at first."""
    return 107 - len("..") - len(str(2**22))


def nameserver(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """``ADDRESS`` or ``ADDRESS@PORT`` as address and port.  Raises ValueError."""
    host, _, port = text.partition("@")
    number = int(port) if port else 53
    if not 0 < number < 65536:
        raise ValueError("port out of range")
    return ipaddress.ip_address(host), number


def _convert(value: Any, kind: Any, bounds: Any) -> tuple[str, Any]:
    """What is wrong with a value ("" where nothing is), and the value as its dataclass field has it."""
    if kind is bool:
        return ("" if isinstance(value, bool) else "true or false"), value
    if kind in (int, float):
        return _number(value, kind, bounds)
    if kind is str:
        return _string(value, bounds), value
    return _strings(value, bounds)


def _number(value: Any, kind: type[int] | type[float], bounds: Any) -> tuple[str, Any]:
    accepted = (int, float) if kind is float else (int,)
    low, high = bounds["minimum"], bounds["maximum"]
    if isinstance(value, bool) or not isinstance(value, accepted) or not low <= value <= high:
        return f"a {'whole ' if kind is int else ''}number from {low} to {high}", value
    return "", kind(value)


def _string(value: Any, bounds: Any) -> str:
    if not isinstance(value, str):
        return "a string"
    if "choices" in bounds and value not in bounds["choices"]:
        shown = [choice for choice in bounds["choices"] if choice]
        near = difflib.get_close_matches(value, shown, 1)
        return "one of " + ", ".join(shown) + (f"; did you mean {near[0]}?" if near else "")
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
        return str(bounds["expected"])
    if bounds.get("absolute") and value and not value.startswith("/"):
        return "an absolute path"
    if bounds.get("check") and value:
        return _CHECKS[bounds["check"]](value)
    return ""


def _strings(value: Any, bounds: Any) -> tuple[str, Any]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "a list of strings", value
    if "each" in bounds:
        allowed = bounds["each"]
        if not value or len(set(value)) != len(value) or not set(value) <= set(allowed):
            return "a list of distinct names out of " + ", ".join(allowed), value
    for item in value:
        if bounds.get("check") and (problem := _CHECKS[bounds["check"]](item)):
            return problem, value
    return "", tuple(value)


def _check_nameserver(item: str) -> str:
    try:
        nameserver(item)
    except ValueError:
        return "a list of IP addresses, each ADDRESS or ADDRESS@PORT"
    return ""


def _check_network(item: str) -> str:
    try:
        ipaddress.ip_network(item, strict=False)
    except ValueError:
        return "a list of networks such as 192.0.2.0/24"
    return ""


def _check_domain(item: str) -> str:
    if "@" in item or " " in item or not item:
        return "a list of domain names or patterns such as *.example.org"
    return "" if _pattern_domain(item) is not None else f"a list of domain names; {item!r} is none"


def _check_origin(item: str) -> str:
    return "a domain name" if set(item) & set("*?[@ ") or not _pattern_domain(item) else ""


def _check_pattern(item: str) -> str:
    domain = item.rpartition("@")[2]
    if item in ("<>", "*") or ("@" in item and domain and _pattern_domain(domain) is not None):
        return ""
    return "a pattern for addresses such as *@example.org"


def _pattern_domain(pattern: str) -> str | None:
    """A domain or shell pattern in lower-case A-labels, None where a label is no label."""
    if pattern.isascii():
        return pattern.lower().rstrip(".")
    try:
        wild = re.sub(r"^\*\.", "wildcard.", pattern)
        domain = address.parse(f"x@{wild}").domain
    except AddressError:
        return None
    return re.sub(r"^wildcard\.", "*.", domain) if wild != pattern else domain


def domain_pattern(pattern: str) -> str:
    """As ``local_domains`` and rules compare domains: lower-case A-labels, shell wildcards kept."""
    return _pattern_domain(pattern) or pattern.lower()


_CHECKS = {
    "nameserver": _check_nameserver,
    "network": _check_network,
    "domain": _check_domain,
    "pattern": _check_pattern,
    "origin": _check_origin,
}
