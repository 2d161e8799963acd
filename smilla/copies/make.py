"""Makes the copies: the header fields inside each, the encryption to its keys, the MIME message around it.

A copy is encrypted when its body is read.  Nobody is left out: a key that does not fit its copy's form raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial

from smilla.copies import protect, rewrap
from smilla.copies.protect import Plan
from smilla.copies.sharing import Group
from smilla.encrypt import cms, pgp
from smilla.errors import EncryptionError
from smilla.model import Action, Copy, CopyForm, Decision, HeaderEdits, Message, PGPKey, Style, X509Key
from smilla.ports import Metrics, OpenPGPEngine


def copies_of(
    message: Message, groups: Sequence[Group], engine: OpenPGPEngine, edits: HeaderEdits, metrics: Metrics
) -> tuple[Copy, ...]:
    """One copy for each group; ``edits`` are the header fields removed from each, or added to it."""
    asked = {"off", *(members[0].style.protect_headers for _, members in groups)}
    plans = {each: protect.plan(message, rewrap.content_fields(message), each, edits=edits) for each in asked}
    return tuple(_copy(message, plans, engine, metrics, group) for group in groups)


def _copy(message: Message, plans: Mapping[str, Plan], engine: OpenPGPEngine, metrics: Metrics, group: Group) -> Copy:
    """``plans`` for the header are keyed by ``protect_headers``; copies share them."""
    form, members = group
    recipients = tuple(decision.recipient for decision in members)
    keys = _keys(members)
    style = members[0].style
    if form not in (CopyForm.SMIME, CopyForm.OPENPGP):
        as_it_came = rewrap.unchanged(message)
        if any(decision.action is Action.HOLD for decision in members):
            return Copy(form, recipients, as_it_came)  # whoever releases it sees that the sender asked for encryption
        return Copy(form, recipients, rewrap.combined(as_it_came, plans["off"].edits))
    plan = plans[style.protect_headers]
    if form is CopyForm.SMIME:
        encrypt = partial(_measured, metrics, form, partial(_encrypt_cms, keys, style))
        rewrite = rewrap.smime(message, encrypt, plan.inside, authenticated=style.is_authenticated)
    else:
        encrypt = partial(_measured, metrics, form, partial(_encrypt_pgp, keys, style, engine))
        rewrite = rewrap.openpgp(message, encrypt, plan.inside)
    return Copy(form, recipients, rewrap.combined(rewrite, plan.edits), plan.protection)


def _keys(members: tuple[Decision, ...]) -> tuple[X509Key | PGPKey, ...]:
    """The keys of all who read a copy, each once.  Two OpenPGP keys with one primary key may have different subkeys;
    both are needed.  If they differ only in what they announce, the encrypter chooses."""
    keys = [decision.key for decision in members]
    keys += [reader.key for decision in members if decision.key for reader in decision.readers]
    return tuple({(key.format, key.fingerprint, _octets(key)): key for key in keys if key}.values())


def _octets(key: X509Key | PGPKey) -> bytes:
    """What the encrypter receives."""
    return key.raw_for_seipd2 if isinstance(key, PGPKey) else key.raw


def _measured(
    metrics: Metrics,
    form: CopyForm,
    encrypt: Callable[[Iterable[bytes], int], Iterator[bytes]],
    content: Iterable[bytes],
    size: int,
) -> Iterator[bytes]:
    return metrics.encrypting(form.value, encrypt(content, size))


def _encrypt_cms(
    keys: tuple[X509Key | PGPKey, ...], style: Style, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, X509Key)]
    _nobody_left_out(keys, certificates)
    return cms.encrypt(content, size, certificates, style)


def _encrypt_pgp(
    keys: tuple[X509Key | PGPKey, ...], style: Style, engine: OpenPGPEngine, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, PGPKey)]
    _nobody_left_out(keys, certificates)
    return pgp.encrypt(content, size, certificates, engine, style)


def _nobody_left_out(members: Sized, keys: Sized) -> None:
    if len(members) != len(keys) or not members:
        raise EncryptionError(f"{len(members)} recipients share a copy, but {len(keys)} keys fit its form")
