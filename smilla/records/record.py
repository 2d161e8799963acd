"""One record that publishes a certificate (SMIMEA, RFC 8162) or an OpenPGP key (OPENPGPKEY, RFC 7929)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

from smilla.address import EmailAddress
from smilla.keys.discovery import openpgpkey, smimea
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, owner_name
from smilla.keys.validity import pgp, x509
from smilla.model import Assessment, DNSAnswer, DNSSECStatus

TYPES = {SMIMEA: "SMIMEA", OPENPGPKEY: "OPENPGPKEY"}


@dataclass(frozen=True, slots=True)
class Record:
    """``owner`` is absolute, with the final dot; ``rdtype`` SMIMEA or OPENPGPKEY; ``rdata`` in wire form."""

    owner: str
    rdtype: int
    rdata: bytes

    @property
    def type_name(self) -> str:
        """The mnemonic of the type."""
        return TYPES[self.rdtype]

    @property
    def text(self) -> str:
        """The RDATA in presentation form (RFC 8162 section 2, RFC 7929 section 2.4)."""
        if self.rdtype == OPENPGPKEY:
            return base64.b64encode(self.rdata).decode("ascii")
        usage, selector, matching_type = self.rdata[:3]
        return f"{usage} {selector} {matching_type} {self.rdata[3:].hex()}"

    def line(self, *, generic: bool = False, ttl_s: int | None = None) -> str:
        """The line for a zone file; ``generic``: in the form of RFC 3597 section 5, for older name servers."""
        ttl = "" if ttl_s is None else f"{ttl_s} "
        if generic:
            return f"{self.owner} {ttl}IN TYPE{self.rdtype} \\# {len(self.rdata)} {self.rdata.hex()}"
        return f"{self.owner} {ttl}IN {self.type_name} {self.text}"


def smimea_record(address: EmailAddress, raw_certificate: bytes, usage: int) -> Record:
    """Selector 0, matching type 0: the whole certificate, the only form that one can encrypt to."""
    owner = owner_name(address.local_part, address.domain, SMIMEA)
    return Record(owner, SMIMEA, bytes([usage, 0, 0]) + raw_certificate)


def openpgpkey_record(address: EmailAddress, raw_key: bytes) -> Record:
    """The binary key, and nothing else."""
    return Record(owner_name(address.local_part, address.domain, OPENPGPKEY), OPENPGPKEY, raw_key)


def assess(record: Record, address: EmailAddress, now: datetime) -> Assessment:
    """What a sender's smilla would say of the record, if it came alone, and from a signed zone."""
    answer = DNSAnswer(record.owner, record.type_name, DNSSECStatus.SECURE, (record.rdata,))
    if record.rdtype == SMIMEA:
        return x509.assess(smimea.candidates(answer)[0], address, now, None, require_address=True)
    return pgp.assess(openpgpkey.candidates(answer)[0], address, now)
