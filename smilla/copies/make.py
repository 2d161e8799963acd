"""Makes the copies: which header fields go inside each, the encryption to its keys, the MIME message around.

A copy is encrypted when its body is asked for.  Nobody is left out: a key that does not fit its copy's form raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import cache, partial

from smilla.copies import protect, rewrap
from smilla.copies.protect import Plan
from smilla.copies.sharing import Group
from smilla.encrypt import cms, pgp
from smilla.errors import EncryptionError
from smilla.model import Action, Copy, Decision, Form, HeaderEdits, Message, PGPKey, X509Key
from smilla.model.style import Style, is_authenticated
from smilla.ports import OpenPGPEngine


def copies_of(message: Message, groups: Sequence[Group], engine: OpenPGPEngine, edits: HeaderEdits) -> tuple[Copy, ...]:
    """One copy a group; ``edits`` is what goes from the header of each, or comes to it."""
    planned = _planner(message, edits)
    return tuple(_copy(message, planned, engine, form, members) for form, members in groups)


def _planner(message: Message, edits: HeaderEdits) -> Callable[[str], Plan]:
    """The plan for the header by ``protect_headers``, made once for all the copies that share it."""
    return cache(partial(protect.plan, message, rewrap.content_fields(message), edits=edits))


def _copy(
    message: Message, planned: Callable[[str], Plan], engine: OpenPGPEngine, form: Form, members: tuple[Decision, ...]
) -> Copy:
    recipients = tuple(decision.recipient for decision in members)
    keys = _keys(members)
    style = members[0].style
    if form not in (Form.SMIME, Form.OPENPGP):
        as_it_came = rewrap.unchanged(message)
        if any(decision.action is Action.HOLD for decision in members):
            return Copy(form, recipients, as_it_came)  # whoever releases it sees that its sender asked for encryption
        return Copy(form, recipients, rewrap.combined(as_it_came, planned("off").edits))
    plan = planned(style.protect_headers)
    if form is Form.SMIME:
        encrypt = partial(_encrypt_cms, keys, style)
        rewrite = rewrap.smime(message, encrypt, plan.inside, authenticated=is_authenticated(style.cipher))
    else:
        rewrite = rewrap.openpgp(message, partial(_encrypt_pgp, keys, style, engine), plan.inside)
    return Copy(form, recipients, rewrap.combined(rewrite, plan.edits), plan.protection)


def _keys(members: tuple[Decision, ...]) -> tuple[X509Key | PGPKey, ...]:
    """The keys of all who read a copy, each once.  Two OpenPGP keys of one primary key may have different subkeys, and
    both are needed; two that differ in what they announce alone are left to the encrypter."""
    keys = [decision.key for decision in members]
    keys += [reader.key for decision in members if decision.key for reader in decision.readers]
    return tuple({(key.format, key.fingerprint, _octets(key)): key for key in keys if key}.values())


def _octets(key: X509Key | PGPKey) -> bytes:
    """What the encrypter is handed."""
    return key.raw_for_seipd2 if isinstance(key, PGPKey) else key.raw


def _encrypt_cms(
    keys: tuple[X509Key | PGPKey, ...], style: Style, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, X509Key)]
    _nobody_left_out(keys, certificates)
    chosen = {"cipher": style.cipher, "rsa_padding": style.rsa_padding, "ecdh_kdf": style.ecdh_kdf}
    return cms.encrypt(content, size, certificates, **chosen)


def _encrypt_pgp(
    keys: tuple[X509Key | PGPKey, ...], style: Style, engine: OpenPGPEngine, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, PGPKey)]
    _nobody_left_out(keys, certificates)
    return pgp.encrypt(content, size, certificates, engine, style)


def _nobody_left_out(wanted: Sized, found: Sized) -> None:
    if len(wanted) != len(found) or not wanted:
        raise EncryptionError(f"{len(wanted)} recipients share a copy, but {len(found)} keys fit its form")
