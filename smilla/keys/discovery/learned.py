"""The source of learned keys: what authenticated mail has brought from an address (smilla.learning).

It is asked last, and only where every other source proves that there is nothing: a learned key never takes the place of
a published one.  Local parts are compared exactly, as in DNS.
"""

from __future__ import annotations

from smilla.address import EmailAddress
from smilla.errors import SmillaError
from smilla.formats import key_file
from smilla.model import Candidate, Format, LearnedKey, SMIMEACandidate, SourceAnswer
from smilla.ports import Ports

SOURCE = "learned"


def answer(address: EmailAddress, ports: Ports, forms: tuple[str, ...]) -> SourceAnswer:
    """What is known under the first of the local parts ``forms`` that has a key.  Raises nothing."""
    where = str(address)
    if ports.learned is None:
        return SourceAnswer(SOURCE, where, detail="nothing here keeps learned keys", is_unreachable=True)
    try:
        for form in forms:
            known = ports.learned.recall(EmailAddress(form, address.domain, where))
            if known:
                return SourceAnswer(
                    SOURCE, where, tuple(one for key in known for one in _candidates(key)), local_part=form
                )
    except SmillaError as error:
        return SourceAnswer(SOURCE, where, detail=str(error), is_unreachable=True)
    return SourceAnswer(SOURCE, where, detail=f"no mail has brought a key of {address}")


def of(key: LearnedKey) -> SourceAnswer:
    """This key alone, as an answer about its address."""
    return SourceAnswer(SOURCE, str(key.address), _candidates(key), local_part=key.address.local_part)


def candidates(address: EmailAddress, form: Format, raw: bytes) -> tuple[Candidate, ...]:
    """What the gate is to judge: an OpenPGP key, or a certificate as if under SMIMEA usage 1, which asks for a path to
    a trusted authority.  The authorities that were kept with it stand under usage 0, so they are no keys themselves."""
    if form is not Format.SMIME:
        return (Candidate(SOURCE, str(address), form, raw),)
    leaf, *authorities = (one for _, one in key_file.contents(raw, form).keys)
    return (certificate(address, leaf), *(certificate(address, one, usage=0) for one in authorities))


def certificate(address: EmailAddress, raw: bytes, usage: int = 1) -> SMIMEACandidate:
    """A certificate in DER, as the gate takes it."""
    return SMIMEACandidate(SOURCE, str(address), Format.SMIME, raw, None, usage)


def _candidates(key: LearnedKey) -> tuple[Candidate, ...]:
    return candidates(key.address, key.format, key.raw)
