"""Checks a value in the configuration file: its type, its bounds, and what it must name.  Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Any

from smilla import address
from smilla.config import database_url, patterns
from smilla.errors import AddressError

LOOPBACK_ONLY = {  # the sockets that no other machine may reach, and why
    "stage": "whoever reaches it hands over mail",
    "hop": "Postfix believes what is said there",
    "decrypt": "whoever reaches it has mail decrypted",
}
UNIX = ("unix:", "local:")  # a UNIX socket begins so in libmilter's notation
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))+")  # with a dot, in A-labels


def nameserver(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """``ADDRESS`` or ``ADDRESS@PORT`` as address and port.  Raises ValueError."""
    host, _, port = text.partition("@")
    number = int(port) if port else 53
    if not 0 < number < 65536:
        raise ValueError("port out of range")
    return ipaddress.ip_address(host), number


def is_local(specification: str) -> bool:
    """Can only this machine connect?  Without a host, libmilter listens on every address."""
    if specification.startswith(UNIX):
        return True
    host = specification.partition(":")[2].partition("@")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_loopback(address: str) -> bool:
    """Can only this machine connect to ADDRESS:PORT?"""
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return False


def convert(value: Any, kind: Any, bounds: Any) -> tuple[str, Any]:
    """What is wrong with a value ("" if nothing is), and the value in the form of its dataclass field."""
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
        is_empty = not value and not bounds.get("may_be_empty")
        if is_empty or len(set(value)) != len(value) or not set(value) <= set(allowed):
            return "a list of distinct names out of " + ", ".join(allowed), value
    for item in value:
        if bounds.get("absolute") and not item.startswith("/"):
            return "a list of absolute paths", value
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
    problem = patterns.domain_problem(item)
    return f"a list of domain names or patterns such as *.example.org; {problem}" if problem else ""


def _check_origin(item: str) -> str:
    if item.startswith("/"):
        return "a domain name; write the one that stands in that file"
    if item.startswith("."):
        return f"a domain name; write {item.lstrip('.')}" if item.strip(".") else "a domain name"
    return "a domain name" if set(item) & set("*?[@") or patterns.domain_problem(item) else ""


def _check_host(item: str) -> str:
    if re.fullmatch(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]+\]", item):
        return ""
    return f"a list of host names as a browser sends them, such as smilla.example.org; {item!r} is none"


def _check_pattern(item: str) -> str:
    if item in ("<>", "*"):
        return ""
    problem = patterns.address_problem(item)
    return f"a pattern for addresses such as *@example.org; {problem}" if problem else ""


def _check_user(item: str) -> str:
    if item != item.strip():
        return "a pattern for user names, without blanks around it"
    if problem := patterns.set_problem(item):
        return f"a pattern for user names; {problem}"
    return "a shell pattern, not a regular expression" if len(item) > 1 and item[0] == item[-1] == "/" else ""


def _check_reader(item: str) -> str:
    problem = f"a list of addresses, or the word sender; {item!r} is neither"
    try:
        return "" if item == "sender" or ("*" not in item and address.parse(item)) else problem
    except AddressError:
        return problem


def _check_match(item: str) -> str:
    if _HOST.fullmatch(patterns.in_a_labels(item.removeprefix(".")) or ""):
        return ""
    return "a list of host names, each mail.example.org or .example.org"


def _check_fingerprint(item: str) -> str:
    return "" if re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", item) else "a list of fingerprints, in capitals, no blanks"


def _check_database(item: str) -> str:
    try:
        database_url.read(item)
    except ValueError as error:
        return str(error)
    return ""


_CHECKS = {
    "database": _check_database,
    "fingerprint": _check_fingerprint,
    "nameserver": _check_nameserver,
    "network": _check_network,
    "domain": _check_domain,
    "pattern": _check_pattern,
    "origin": _check_origin,
    "host": _check_host,
    "match": _check_match,
    "reader": _check_reader,
    "user": _check_user,
}
