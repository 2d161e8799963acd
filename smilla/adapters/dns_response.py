"""What a response says: the DNSSEC status, the records, and in words why there are none.

No socket: octets in, an answer out.  Raises GarbageError or DNSException where a response answers nothing.
"""

from __future__ import annotations

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from smilla.model import DNSAnswer, DNSSECStatus

# Extended DNS errors that mean that validation failed (RFC 8914 section 4): unsupported algorithms and digests are
# not among them, since validators take such zones for insecure.
_BOGUS_ERRORS = frozenset({5, 6, 7, 8, 9, 10, 11, 12})
# The answer is the resolver's own and not the zone's: forged, blocked, censored, filtered, prohibited.
_NOT_THE_ZONES = frozenset({4, 15, 16, 17, 18})


class GarbageError(OSError):
    """A response that answers nothing."""


def parsed(raw: bytes, query: dns.message.Message) -> dns.message.Message:
    """A response to the query.  Raises OSError or DNSException for what is none."""
    response = dns.message.from_wire(raw, continue_on_error=True)
    if not query.is_response(response):
        raise GarbageError("the response is not to the question")
    return response


def read(response: dns.message.Message, owner: str, rdtype: int) -> DNSAnswer:
    """Status and records of a response.  Raises DNSException where it answers nothing."""
    name = type_name(rdtype)
    detail = _extended_errors(response)
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        bogus = any(int(error.code) in _BOGUS_ERRORS for error in _errors(response))
        status = DNSSECStatus.BOGUS if bogus else DNSSECStatus.UNREACHABLE
        return DNSAnswer(owner, name, status, detail=" ".join((dns.rcode.to_text(code), detail)).strip())
    if response.flags & dns.flags.TC:
        raise GarbageError("truncated over TCP")
    status = DNSSECStatus.SECURE if response.flags & dns.flags.AD else DNSSECStatus.INSECURE
    if status is DNSSECStatus.INSECURE and any(int(error.code) in _NOT_THE_ZONES for error in _errors(response)):
        return DNSAnswer(owner, name, DNSSECStatus.INDETERMINATE, detail=f"the resolver's own answer: {detail}")
    if not isinstance(response, dns.message.QueryMessage):
        raise GarbageError("no response to a query")
    chain = response.resolve_chaining()
    records = tuple(_wire(rdata) for rdata in chain.answer) if chain.answer is not None else ()
    malformed = len(response.errors)
    absent = "" if records or malformed else f"no {name} record ({dns.rcode.to_text(code)})"
    ttl_s = chain.minimum_ttl if records or _has_soa(response) else 0  # RFC 2308 section 5
    return DNSAnswer(owner, name, status, records, malformed, ttl_s, " ".join((absent, detail)).strip())


def _has_soa(response: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def type_name(rdtype: int) -> str:
    """The mnemonic of a record type, TYPEn where it has none."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType(rdtype))


def _wire(rdata: dns.rdata.Rdata) -> bytes:
    raw = rdata.to_wire()
    if raw is None:
        raise GarbageError("an empty record")
    return raw


def _errors(response: dns.message.Message) -> list[dns.edns.EDEOption]:
    return [option for option in response.options if isinstance(option, dns.edns.EDEOption)]


def _extended_errors(response: dns.message.Message) -> str:
    """Extended DNS errors in words (RFC 8914)."""
    return "; ".join(f"EDE {int(e.code)} {e.text or e.code.name}" for e in _errors(response))
