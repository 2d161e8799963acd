"""The configuration file: read, checked, and every fault named.

Promises: ``load`` returns a configuration without a fault, or raises ConfigError with every fault.  Each fault names
its key, its line if known, and the nearest known key.  Environment variables configure nothing.
The options themselves are in options/.
"""

from __future__ import annotations

import difflib
import grp
import pwd
import re
import tomllib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

from smilla.config import decrypt_faults, hop_faults, key_faults, place_faults, relay_faults, rule_faults, toml_slips
from smilla.config.options import (
    DEFAULT_PATH,
    SECTIONS,
    Circle,
    Config,
    DecryptRule,
    MetricsOptions,
    Rule,
    WebOptions,
    options_of,
)
from smilla.config.paths import no_file, no_folder, path_limit
from smilla.config.values import LOOPBACK_ONLY, UNIX, convert, is_local, is_loopback, nameserver
from smilla.errors import ConfigError

__all__ = ["DEFAULT_PATH", "Config", "Rule", "load", "parse"]


# Fields that a mail program or a relay writes: as wish_header, they would be removed.
_NEEDED = re.compile(
    "mime-version|from|sender|reply-to|to|cc|bcc|subject|date|message-id|in-reply-to|references|received|return-path"
    "|content-.*|resent-.*|dkim-signature|arc-.*|authentication-results|x-smilla.*"
)


def load(path: Path) -> Config:
    """Reads and checks the file.  Raises ConfigError with every fault."""
    try:
        text = path.read_bytes().decode("utf-8")
    except PermissionError as error:
        told = "'smilla config check --probe' as root names the part of the path at fault"
        raise ConfigError([f"{path}: cannot be read by this user: {error.strerror}; {told}"]) from error
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
        told = toml_slips.advice(text, str(error))
        raise ConfigError([f"{name}: is not TOML: {error}{f'; {told}' if told else ''}"]) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number with thousands of digits
        raise ConfigError([f"{name}: cannot be read: {error}"]) from error
    reader = _Reader(text, name)
    config = reader.config(document)
    if not reader.faults:
        reader.check_together(config)
    if reader.faults:
        raise ConfigError(reader.faults)
    return config


class _Reader:
    """Turns a TOML document into a Config; collects faults instead of stopping at the first."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.splitlines()
        self._name = name
        self._number = 0  # of the table, where there may be several
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
        if kind in _ARRAYS:
            return self._array(section, kind, value)
        if not isinstance(value, dict):
            self._fault(section, "", f"must be a table: write [{section}] and its keys below")
            return kind()
        return kind(**self._section(kind, section, value))

    def _array(self, section: str, kind: type[Any], value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._fault(section, "", f"must be an array of tables: write [[{section}]] and its keys below")
            return ()
        found = []
        for self._number, table in enumerate(value, 1):
            one = kind(**self._section(kind, section, table))
            for problem in _ARRAYS[kind](one, table):
                self._fault_of(section, self._number, problem)
            found.append(one)
        return tuple(found)

    def _fault_of(self, section: str, number: int, problem: str) -> None:
        """A fault of one of several tables of that name."""
        header = re.compile(rf"\s*\[\[\s*[\"']?{section}[\"']?\s*\]\]")
        headers = (n for n, line in enumerate(self._lines, 1) if header.match(line))
        line = next(islice(headers, number - 1, None), 0)
        where = f"{self._name}:{line}" if line else self._name
        self.faults.append(f"{where}: {section} {number} {problem}")

    def _rule_fault(self, number: int, problem: str) -> None:
        self._fault_of("rule", number, problem)

    def _section(self, kind: type[Any], section: str, table: dict[str, Any]) -> dict[str, Any]:
        known = options_of(kind)
        types = get_type_hints(kind)
        values = {}
        for key, value in table.items():
            if key not in known:
                self._fault(key, section, self._unknown(key, section, isinstance(value, dict)))
                continue
            problem, converted = convert(value, types[key], known[key].metadata)
            if problem:
                has_password = known[key].metadata.get("check") == "database"  # perhaps, and this goes to logs
                self._fault(key, section, f"{'' if has_password else f'is {value!r}, but '}must be {problem}")
            else:
                values[key] = converted
        return values

    @staticmethod
    def _unknown(key: str, section: str, is_table: bool) -> str:
        tables: dict[str, Any] = {"": Config, **SECTIONS}
        here = [*options_of(tables[section]), *(() if section else SECTIONS)]
        if near := difflib.get_close_matches(key, here, 1, 0.9):
            return f"is unknown; did you mean {near[0]}?"
        if homes := [_home(table) for table, kind in tables.items() if key in options_of(kind)]:
            return f"is an unknown key; it belongs {' or '.join(homes)}"
        if near := difflib.get_close_matches(key, here, 1, 0.6):
            return f"is unknown; did you mean {near[0]}?"
        names = {f"[{table}] {name}" if table else name: name for table, k in tables.items() for name in options_of(k)}
        near = [where for where, name in names.items() if difflib.get_close_matches(key, [name], 1, 0.6)]
        kind = "table" if is_table else "key"
        return f"is an unknown {kind}; the nearest known one is {near[0]}" if near else f"is an unknown {kind}"

    def _fault(self, key: str, section: str, problem: str) -> None:
        line = self._line(key, section)
        where = f"{self._name}:{line}" if line else self._name
        self.faults.append(f"{where}: {f'[{section}] ' if section else ''}{key} {problem}")

    def _line(self, key: str, section: str) -> int:
        current, tables = "", 0
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\[?\s*([\w.\"-]+)\s*\]", line):
                current = header[1]
                tables += current == section
                if current == key and not section:
                    return number
            elif current != section or (section in _OF_ARRAYS and tables != self._number):
                continue
            elif re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        return 0

    def check_together(self, config: Config) -> None:
        """Faults that show only when several keys are seen together."""
        if config.mode != "outbound" and not config.local_domains:
            self._fault("local_domains", "", f'is empty, but mode = "{config.mode}" encrypts for these domains only')
        if config.dns.dnssec == "validate" and (problem := no_file(config.dns.trust_anchor)):
            self._fault("trust_anchor", "dns", f'is "{config.dns.trust_anchor}", {problem} (apt: dns-root-data)')
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
        if "directory" in config.keys.sources and (problem := no_folder(config.keys.directory or "/nonexistent")):
            told = f'is "{config.keys.directory}", {problem}' if config.keys.directory else "is not set"
            self._fault("directory", "keys", f"{told}, but is among sources")
        if problem := no_folder(config.spool.folder):
            self._fault("folder", "spool", f'is "{config.spool.folder}", {problem}')
        self._check_sockets(config)
        self._check_relay(config)
        self._check_metrics(config.metrics)
        self._check_web(config.web)
        self._check_keys(config)
        self._check_policy(config)
        self._check_hops(config)
        self._check_aliases(config)
        self._check_openpgp(config)
        for name in ("ca_file", "crl_file"):
            path = getattr(config.smime, name)
            if path and (problem := no_file(path)):
                self._fault(name, "smime", f'is "{path}", {problem}')

    def _check_web(self, options: WebOptions) -> None:
        if options.listen and not is_loopback(options.listen):
            self._fault(
                "listen",
                "web",
                f'is "{options.listen}", which other machines may reach; take 127.0.0.1 or [::1], and reach it by ssh '
                "-L or through a reverse proxy with TLS",
            )

    def _check_metrics(self, options: MetricsOptions) -> None:
        self._check_group("socket_group", "metrics", options.socket_group)
        if options.listen.startswith(UNIX):
            self._check_path("listen", "metrics", options.listen.partition(":")[2])
        elif options.listen and options.loopback_only and not is_loopback(options.listen):
            self._fault(
                "listen",
                "metrics",
                f'is "{options.listen}", which other machines may reach; take 127.0.0.1 or [::1], or write '
                "loopback_only = false",
            )
        self._check_path("status", "metrics", options.status)

    def _check_policy(self, config: Config) -> None:
        word = config.policy.wish_subject
        if word and (not word.strip() or not word.isprintable()):
            self._fault("wish_subject", "policy", f"is {word!r}, but must be a word that can be seen")
        if _NEEDED.fullmatch(field := config.policy.wish_header.lower()):
            self._fault(
                "wish_header", "policy", f'is "{field}", a field that mail also has when nobody asks for encryption'
            )
        if config.policy.one_fails == "bounce" and not config.may_split:
            self._fault("one_fails", "policy", 'is "bounce", which needs mixed = "stage" or "reinject"')

    def _check_keys(self, config: Config) -> None:
        for name, problem in key_faults.of_keys(config):
            self._fault(name, "keys", problem)
        for name, problem in key_faults.of_ldap(config):
            self._fault(name, "ldap", problem)
        for name, problem in key_faults.of_learned(config):
            self._fault(name, "learned", problem)
        for number, problem in key_faults.of_rules(config):
            self._rule_fault(number, problem)

    def _check_hops(self, config: Config) -> None:
        for name, problem in hop_faults.of_policy(config):
            self._fault(name, "policy", problem)
        for number, problem in hop_faults.of_rules(config):
            self._fault_of("rule", number, problem)
        for number, problem in hop_faults.of_circles(config.circle):
            self._fault_of("circle", number, problem)

    def _check_sockets(self, config: Config) -> None:
        self._check_socket("milter", config.milter)
        for section, why in LOOPBACK_ONLY.items():
            options = getattr(config, section)
            self._check_socket(section, options)
            if not is_local(options.socket):
                self._fault("socket", section, f'is "{options.socket}": {why}; loopback only')
        for section, name, problem in place_faults.of_places(config):
            self._fault(name, section, problem)

    def _check_relay(self, config: Config) -> None:
        self._check_socket("relay", config.relay)
        for section, find in _OF_RELAY.items():
            for name, problem in find(config):
                self._fault(name, section, problem)
        for number, problem in relay_faults.of_rules(config):
            self._rule_fault(number, problem)

    def _check_aliases(self, config: Config) -> None:
        if config.keys.aliases != "expanded":
            return
        if not config.may_seal:
            self._fault("aliases", "keys", 'is "expanded", which needs [policy] mixed = "stage"')
        if not config.local_domains:
            self._fault("aliases", "keys", 'is "expanded", but local_domains is empty: nobody may be an alias')

    def _check_openpgp(self, config: Config) -> None:
        if config.openpgp.engine != "sequoia":
            return
        problem = 'needs gpg, which engine = "sequoia" leaves out; write engine = "auto" or "gnupg"'
        if config.openpgp.hidden_recipients:
            self._fault("hidden_recipients", "openpgp", problem)
        for number, rule in enumerate(config.rule, 1):
            if rule.hidden_recipients:
                self._rule_fault(number, f"has hidden_recipients, which {problem}")

    def _check_socket(self, section: str, options: Any) -> None:
        """Checks what only this machine knows: users, groups, and how long a path may be."""
        user = getattr(options, "user", "")
        if user and not _is_known(pwd.getpwnam, user):
            self._fault("user", section, f'is "{user}", which this machine does not know; useradd --system {user}')
        self._check_group("socket_group", section, options.socket_group)
        if options.socket.startswith(UNIX):
            self._check_path("socket", section, options.socket.partition(":")[2])

    def _check_group(self, name: str, section: str, group: str) -> None:
        if group and not _is_known(grp.getgrnam, group):
            self._fault(name, section, f'is "{group}", which this machine does not know; groupadd --system {group}')

    def _check_path(self, name: str, section: str, path: str) -> None:
        if len(path.encode()) > path_limit():
            self._fault(name, section, f"has a path of {len(path.encode())} octets; at most {path_limit()} do")


def _is_known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except (KeyError, ValueError):  # a NUL is no part of a name
        return False
    return True


def _home(table: str) -> str:
    """Where the keys of a table stand."""
    if not table:
        return "at the top, before the first [table]"
    return f"in a [[{table}]]" if table in _OF_ARRAYS else f"in [{table}]"


def _circle_problems(circle: Circle, _: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a circle as a whole."""
    for name in ("name", "domains", "ca_file"):
        if not getattr(circle, name):
            yield f"has no {name}"
    if circle.ca_file and (problem := no_file(circle.ca_file)):
        yield f'has ca_file = "{circle.ca_file}", {problem}'
    if problem := hop_faults.path_problem(circle.ca_file):
        yield f"has ca_file = {circle.ca_file!r}, {problem}"


_ARRAYS: dict[type[Any], Callable[[Any, dict[str, Any]], Iterator[str]]] = {
    Rule: rule_faults.of_rule,
    Circle: _circle_problems,
    DecryptRule: decrypt_faults.of_rule,
}
_OF_RELAY = {
    "relay": relay_faults.of_relay,
    "policy": relay_faults.of_policy,
    "keys": relay_faults.of_keys,
}
_OF_ARRAYS = tuple(name for name, kind in SECTIONS.items() if kind in _ARRAYS)


def value_of(raw: str) -> Any:
    """A value as TOML writes it; what is none is taken as a string."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw.strip()
