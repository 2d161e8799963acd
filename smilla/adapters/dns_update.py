"""Dynamic updates (RFC 2136) over TCP, signed by TSIG (RFC 8945), and questions to authoritative servers.

Promises: only one RRset changes, and only if it is still what was read before; otherwise nothing does.  Where a key is
given, every answer must be signed with it.  Each exchange takes at most ``timeout_s``.  Failures are PublishErrors.

A name may have several addresses.  They are tried in the order of the system, and the first one that answers is asked
from then on, so that an update goes where the old records were read.  An error names every address that failed.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from smilla.errors import PublishError
from smilla.formats.tsig_key import TSIGKey

_FAILURES = (OSError, EOFError, ValueError, dns.exception.DNSException)
_WORDS = {
    dns.rcode.FORMERR: (False, "it does not understand the request (FORMERR)"),
    dns.rcode.SERVFAIL: (True, "it failed (SERVFAIL); its log may say why"),
    dns.rcode.NXDOMAIN: (True, "a name that the update counts on is gone (NXDOMAIN)"),
    dns.rcode.NOTIMP: (False, "it has no dynamic updates (NOTIMP), as nsd has none; use --via zone-file"),
    dns.rcode.REFUSED: (False, "it refuses (REFUSED); its update policy must allow this key, this name and this type"),
    dns.rcode.YXDOMAIN: (True, "the record was changed meanwhile (YXDOMAIN); run the command again"),
    dns.rcode.YXRRSET: (True, "the record was changed meanwhile (YXRRSET); run the command again"),
    dns.rcode.NXRRSET: (True, "the record was changed meanwhile (NXRRSET); run the command again"),
    dns.rcode.NOTAUTH: (False, "it is not the primary of the zone, or does not accept the key (NOTAUTH)"),
    dns.rcode.NOTZONE: (False, "the name is not in the zone (NOTZONE); see --zone"),
}


@dataclass(frozen=True, slots=True)
class RRset:
    """The records of one owner name (absolute) and type, as RDATA in wire form."""

    owner: str
    rdtype: int
    rdata: frozenset[bytes]
    ttl_s: int


class SilentError(PublishError):
    """No answer: nobody knows what the server has."""


@dataclass(frozen=True, slots=True)
class Everywhere:
    """What each address of a server has, by HOST[@PORT][ADDRESS], or HOST[@PORT] if there is one address; and of those
    that gave no answer, why."""

    rrsets: dict[str, RRset]
    silent: tuple[str, ...]


class NameServer:
    """One server at HOST[@PORT]; HOST is a name or an address."""

    def __init__(self, text: str, key: TSIGKey | None = None, timeout_s: float = 10.0) -> None:
        """Raises ValueError for a wrong port."""
        self._host, _, port = text.partition("@")
        self._port = int(port or 53) if re.fullmatch("[0-9]{0,5}", port) else 0
        if not self._host or not 0 < self._port < 65536 or re.fullmatch(r"[^:]*:[0-9]+", text):
            raise ValueError("a server is HOST or HOST@PORT")
        self.name, self._timeout_s = text, timeout_s
        self._key = dns.tsig.Key(key.name, key.secret, key.algorithm) if key else None
        self._at = ""
        self._known: tuple[str, ...] = ()

    def zone_of(self, owner: str) -> str:
        """The zone of this server that holds the name.  Raises PublishError."""
        response = self._asked(owner, dns.rdatatype.SOA)
        for rrset in (*response.answer, *response.authority):
            if rrset.rdtype == dns.rdatatype.SOA and dns.name.from_text(owner).is_subdomain(rrset.name):
                return rrset.name.to_text()
        raise PublishError(f"{self.name}: names no zone for {owner}", temporary=False)

    def read_everywhere(self, owner: str, rdtype: int) -> Everywhere:
        """What each of its addresses has, with authority.  Raises PublishError if none answers, or one refuses."""
        rrsets, silent = {}, []
        for address in self._addresses():
            self._at = address
            try:
                rrsets[self._where(address)] = self.read(owner, rdtype)
            except SilentError as error:
                silent.append(str(error))
        if not rrsets:
            raise SilentError("; ".join(silent), temporary=True)
        return Everywhere(rrsets, tuple(silent))

    def read(self, owner: str, rdtype: int) -> RRset:
        """What this server has, with authority.  Raises PublishError."""
        response = self._asked(owner, dns.rdatatype.RdataType(rdtype))
        name = dns.name.from_text(owner)
        for rrset in response.answer:
            if rrset.name == name and rrset.rdtype == rdtype:
                return RRset(owner, rdtype, frozenset(rdata.to_wire() or b"" for rdata in rrset), rrset.ttl)
            if rrset.name == name and rrset.rdtype == dns.rdatatype.CNAME:
                raise PublishError(
                    f"{self.name}: {owner} is an alias (CNAME), which stands in the way", temporary=False
                )
        return RRset(owner, rdtype, frozenset(), 0)

    def replace(self, zone: str, old: RRset, new: RRset) -> None:
        """Puts ``new`` in the place of ``old``, which is what ``read`` gave.  Raises PublishError."""
        update = dns.update.UpdateMessage(dns.name.from_text(zone))
        name = dns.name.from_text(old.owner)
        if old.rdata:
            # Prerequisites carry no TTL (RFC 2136 section 2.4.2).
            update.present(name, *_rdatas(old))
        else:
            update.absent(name, dns.rdatatype.RdataType(old.rdtype))
        if old.rdata:
            update.delete(name, dns.rdatatype.RdataType(old.rdtype))
        for rdata in _rdatas(new):
            update.add(name, new.ttl_s, rdata)
        code = self._exchanged(update).rcode()
        if code != dns.rcode.NOERROR:
            raise self._refusal(code)

    def _asked(self, owner: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """An answer with authority.  Raises PublishError."""
        query = dns.message.make_query(dns.name.from_text(owner), kind, use_edns=0, payload=1232, flags=0)
        response = self._exchanged(query)
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._refusal(response.rcode())
        if not response.flags & dns.flags.AA:
            text = f"{self._where(self._at)}: does not answer for {owner} with authority"
            raise PublishError(text, temporary=False)
        return response

    def _exchanged(self, query: dns.message.Message) -> dns.message.Message:
        """With the address that answered before, or with the first one that answers now."""
        silent = []
        for address in [self._at] if self._at else self._addresses():
            try:
                return self._exchanged_at(address, query)
            except SilentError as error:
                silent.append(str(error))
        self._at = ""
        raise SilentError("; ".join(silent), temporary=True)

    def _exchanged_at(self, address: str, query: dns.message.Message) -> dns.message.Message:
        if self._key:
            query.use_tsig(self._key)
        self._at, where = address, self._where(address)
        try:
            response = dns.query.tcp(query, address, self._timeout_s, self._port)
        except dns.tsig.PeerError as error:
            raise PublishError(f"{self.name}: does not accept the key: {error}", temporary=False) from error
        except dns.exception.Timeout as error:
            raise SilentError(f"{where}: no answer within {self._timeout_s:g} s", temporary=True) from error
        except _FAILURES as error:
            words = str(error) or type(error).__name__
            if self._key and isinstance(error, (dns.exception.FormError, dns.tsig.BadSignature)):
                text = f"{where}: its answer is not signed with the key, or malformed: {words}"
                raise PublishError(text, temporary=True) from error
            raise SilentError(f"{where}: cannot be asked: {words}", temporary=True) from error
        if self._key and not response.had_tsig:
            if response.rcode() != dns.rcode.NOERROR:
                raise self._refusal(response.rcode())
            raise PublishError(f"{self.name}: its answer is not signed with the key", temporary=False)
        return response

    def _addresses(self) -> tuple[str, ...]:
        """As the system knows them, at least one.  Raises SilentError."""
        if not self._known:
            try:
                found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except (OSError, ValueError) as error:
                raise SilentError(f"{self.name}: cannot be asked: {error}", temporary=True) from error
            self._known = tuple(dict.fromkeys(str(one[4][0]) for one in found))
        return self._known

    def _where(self, address: str) -> str:
        return f"{self.name}[{address}]" if len(self._addresses()) > 1 else self.name

    def _refusal(self, code: dns.rcode.Rcode) -> PublishError:
        temporary, words = _WORDS.get(code, (False, f"it answers {dns.rcode.to_text(code)}"))
        return PublishError(f"{self._where(self._at)}: {words}", temporary=temporary)


def _rdatas(rrset: RRset) -> list[dns.rdata.Rdata]:
    kind = dns.rdatatype.RdataType(rrset.rdtype)
    return [dns.rdata.from_wire(dns.rdataclass.IN, kind, raw, 0, len(raw)) for raw in sorted(rrset.rdata)]
