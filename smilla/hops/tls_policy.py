"""What Postfix is told of a domain: the answers of the maps ``secure`` and ``policy``, for smtp_tls_policy_maps
(postconf(5), socketmap_table(5)).  Pure.

``secure`` is for the transport of secure-hop, which knows no clear text: whatever is not verified now is TEMP, so the
mail waits.  Of a next hop that is no domain (``[host]``, an address, a name with a port, ``.parent``) the map has
nothing: NOTFOUND leaves dane-only in force there.

``policy`` is for all of Postfix's mail: NOTFOUND leaves Postfix's own level in force.  It never stands for "nobody
knows", unless [hop] unknown says so, and never for a policy in mode enforce that allows none of the MX hosts, to which
a sender must not deliver (RFC 8461 section 5).  TLSA records that no client can use still ask for TLS (RFC 7672 section
2.2), which is Postfix's level ``dane``.
"""

from __future__ import annotations

import re

from smilla import address
from smilla.config.options import HopOptions
from smilla.errors import AddressError, ParseError
from smilla.hops import mta_sts
from smilla.model import Hop, HopVerdict, HopWay

NOTFOUND = "NOTFOUND "
MAPS = ("secure", "policy")
_NO_DOMAIN = re.compile(r"[.\[].*|.*[:\]/ ].*|[0-9.]*", re.DOTALL)
_SEPARATORS = re.compile(r"[\s,{}]")
_UNSEEN = re.compile(r"[^ -~]")
_LONGEST = 60_000  # octets of an answer; attributes are left out before it gets longer
_LONGEST_REASON = 400  # Postfix writes it into its log, and it may have a stranger's words


def domain_of(key: str) -> str:
    """The domain in A-labels that Postfix asks about; "" if the next hop is none."""
    if _NO_DOMAIN.fullmatch(key):
        return ""
    try:
        domain = address.parse(f"postmaster@{key}").domain
    except AddressError:
        return ""
    return domain if "." in domain else ""


def secure(hop: Hop, options: HopOptions) -> str:
    """The answer of the map ``secure``."""
    if not hop.is_verified:
        return _temporary(hop)
    return _verified(hop, options)


def policy(hop: Hop, options: HopOptions) -> str:
    """The answer of the map ``policy``."""
    if hop.is_verified:
        return _verified(hop, options)
    if hop.reason.code == "mta_sts_mismatch" and hop.mode == "enforce":
        return _temporary(hop)
    if hop.verdict is not HopVerdict.NONE and options.unknown == "defer":
        return _temporary(hop)
    return "OK dane" if hop.wants_tls else NOTFOUND


def _verified(hop: Hop, options: HopOptions) -> str:
    if hop.way is HopWay.DANE:
        return "OK dane-only"
    if hop.way is HopWay.CIRCLE:
        names = ":".join(hop.names) or "nexthop:dot-nexthop"
        if _SEPARATORS.search(names + hop.ca_file) or _UNSEEN.search(names + hop.ca_file):
            return f"TEMP circle {hop.circle}: its ca_file or a name in its match is none that Postfix takes"
        return f"OK secure match={names} tafile={hop.ca_file}"
    answer = f"OK secure match={':'.join(hop.names)} servername=hostname"
    attributes = _attributes(hop) if options.attributes else ""
    return answer + (attributes if len(answer) + len(attributes) <= _LONGEST else "")


def _temporary(hop: Hop) -> str:
    return f"TEMP {hop.reason.code}: {hop.domain}: {_UNSEEN.sub('?', hop.reason.text[:_LONGEST_REASON])}"


def _attributes(hop: Hop) -> str:
    """What Postfix 3.10 and newer hand on to TLSRPT, and match MX hosts with (RFC 8460 section 4.4)."""
    lines = [line for line in hop.policy_lines if line.isascii() and line.isprintable() and not set(line) & set("{}")]
    try:
        found = mta_sts.read("\n".join(hop.policy_lines).encode("utf-8"))
    except ParseError:
        return ""
    if any(_SEPARATORS.search(pattern) or _UNSEEN.search(pattern) for pattern in found.mx):
        return ""
    patterns = "".join(f" mx_host_pattern={pattern}" for pattern in found.mx)
    strings = "".join(f" {{ policy_string = {line} }}" for line in lines)
    return f" policy_type=sts policy_domain={hop.domain} policy_ttl={found.max_age_s}{patterns}{strings}"
