"""Reads a response: the DNSSEC status, the records, or the reason in words why there are none.

No socket: octets in, an answer out.  Raises GarbageError or DNSException if a response is no answer.
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

# Extended DNS errors that mean failed validation (RFC 8914 section 4).  Unsupported algorithms and digests are not
# among them, since validators treat such zones as insecure.
_BOGUS_ERRORS = frozenset({5, 6, 7, 8, 9, 10, 11, 12})
# Unsupported algorithms and digests: a validator treats such a zone as unsigned (RFC 4035 section 5.2).  If an answer
# without the AD bit carries any other error, we do not know what the zone says: the answer is forged, blocked, censored
# or filtered, stale, or not validated though it should be (RFC 8914 section 4).
_OF_UNSIGNED = frozenset({1, 2})
_ALGORITHMS, _DIGESTS = frozenset({8, 10, 13, 14, 15}), frozenset({2, 4})  # every validator knows these (RFC 8624)


class GarbageError(OSError):
    """A response that does not answer the question."""


def parsed(raw: bytes, query: dns.message.Message) -> dns.message.Message:
    """The response to a query.  Raises OSError or DNSException if it is not one."""
    response = dns.message.from_wire(raw, continue_on_error=True)
    if not query.is_response(response):
        raise GarbageError("the response does not match the question")
    return response


def read(response: dns.message.Message, owner: str, rdtype: int) -> DNSAnswer:
    """The status and records of a response.  Raises GarbageError or DNSException if it is no answer."""
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
    if status is DNSSECStatus.INSECURE and (codes := {int(error.code) for error in _errors(response)} - _OF_UNSIGNED):
        if codes & _BOGUS_ERRORS:
            return DNSAnswer(owner, name, DNSSECStatus.BOGUS, detail=f"passed on though it is not valid: {detail}")
        return DNSAnswer(owner, name, DNSSECStatus.INDETERMINATE, detail=f"the resolver's own answer: {detail}")
    if not isinstance(response, dns.message.QueryMessage):
        raise GarbageError("no response to a query")
    chain = response.resolve_chaining()
    records = tuple(_wire(rdata) for rdata in chain.answer) if chain.answer is not None else ()
    malformed = len(response.errors)
    absent = "" if records or malformed else f"no {name} record ({dns.rcode.to_text(code)})"
    ttl_s = chain.minimum_ttl if records or _has_soa(response) else 0  # RFC 2308 section 5
    return DNSAnswer(owner, name, status, records, malformed, ttl_s, " ".join((absent, detail)).strip())


def is_own(response: dns.message.Message) -> bool:
    """Did the resolver make up this answer itself (local zone, response policy, copy of a zone), without validating?"""
    return bool(response.flags & dns.flags.AA) and not response.flags & dns.flags.AD


def apex(response: dns.message.Message) -> dns.name.Name | None:
    """The zone that a response claims to come from.  None if it names none, or one that does not contain the name at
    the end of the aliases."""
    name, kinds = _answered(response), (dns.rdatatype.SOA, dns.rdatatype.NS)
    return next((s.name for s in response.authority if s.rdtype in kinds and name.is_subdomain(s.name)), None)


def above(response: dns.message.Message) -> dns.name.Name:
    """A name in that zone or above it, for responses that name no zone: records may come alone, and some servers deny
    without a SOA.  For an owner name this is the mail domain (RFC 7929 and 8162 put two labels before it), and for
    names such as ``_mta-sts.DOMAIN`` and ``_25._tcp.HOST`` what stands after these labels."""
    name = _answered(response)
    labels = _before_domain(name) if name == response.question[0].name else 1
    return dns.name.Name(name.labels[labels:]) if len(name) > labels + 1 else name


def _before_domain(name: dns.name.Name) -> int:
    if name.labels[1:2] in ((b"_smimecert",), (b"_openpgpkey",)):
        return 2
    return next((number for number, label in enumerate(name.labels) if not label.startswith(b"_")), 0)


def _answered(response: dns.message.Message) -> dns.name.Name:
    """The name at the end of the aliases."""
    if isinstance(response, dns.message.QueryMessage):
        return response.resolve_chaining().canonical_name
    return response.question[0].name


def proves_unsigned(response: dns.message.Message) -> bool:
    """Does a response about DS prove that the zone is not signed?  The resolver must have asked and validated.  A zone
    counts as unsigned if not every validator knows its algorithms (RFC 4035 section 5.2)."""
    if response.rcode() != dns.rcode.NOERROR or is_own(response):
        return False
    if {int(error.code) for error in _errors(response)} - _OF_UNSIGNED:
        return False
    records = [rdata for rrset in response.answer if rrset.rdtype == dns.rdatatype.DS for rdata in rrset]
    is_known = any(int(ds.algorithm) in _ALGORITHMS and int(ds.digest_type) in _DIGESTS for ds in records)
    return not (is_known and response.flags & dns.flags.AD)


def _has_soa(response: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def type_name(rdtype: int) -> str:
    """The mnemonic of a record type, or TYPEn."""
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
