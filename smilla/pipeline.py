"""What happens to a message.

    classify     what is it already?
    policy       for whom is encryption wanted?
    lookup       which keys do they publish, and may these be used?  (begun at RCPT, finished here)
    policy       so what happens for each recipient?
    copies       who shares a copy with whom?
    encrypt      each copy, to its recipients' keys
    rewrap       as a MIME message

``process`` has no I/O of its own: what it needs from outside comes through the ports.  It serves ``smilla milter``
and ``smilla encrypt`` alike.  It returns an Outcome or raises; whoever called it must then keep the mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from functools import partial

from smilla import classify, copies, lookup, policy, rewrap
from smilla.config import Config
from smilla.encrypt import cms, pgp
from smilla.errors import EncryptionError
from smilla.model import (
    Action,
    Copy,
    Decision,
    Disposition,
    Form,
    Message,
    MessageKind,
    Outcome,
    PGPKey,
    Reason,
    Recipient,
    X509Key,
)
from smilla.ports import Ports
from smilla.session import Session

_DISPOSITIONS = (
    (Action.DEFER, Disposition.DEFER),
    (Action.REFUSE, Disposition.REFUSE),
    (Action.HOLD, Disposition.HOLD),
)


def begin_lookup(session: Session, recipient: Recipient, ports: Ports, config: Config) -> None:
    """Starts the search for a recipient's key as soon as the recipient is known, while the body still arrives."""
    wish = policy.wanted(recipient, policy.direction(session.client, config), config)
    if wish.wanted and recipient.address and recipient.address not in session.lookups:
        session.lookups[recipient.address] = lookup.begin(recipient.address, ports, config)


def process(session: Session, ports: Ports, config: Config) -> Outcome:
    """Decides about the whole message, and prepares its copies; a copy is encrypted when its body is asked for."""
    envelope, message = session.envelope, session.message
    if not envelope.recipients:
        raise EncryptionError("a message without a recipient: nobody knows for whom it would have to be encrypted")
    classification = classify.classify(message)
    direction = policy.direction(session.client, config)
    if (problem := rewrap.problem(message)) is not None:
        decisions = tuple(policy.refused(recipient, problem) for recipient in envelope.recipients)
    elif classification.kind is MessageKind.ENCRYPTED:
        decisions = tuple(policy.already_encrypted(recipient, classification) for recipient in envelope.recipients)
    else:
        decisions = _decided(session, direction, ports, config)
    disposition, culprits = _disposition(decisions)
    delivered = disposition in (Disposition.DELIVER, Disposition.HOLD)
    return Outcome(
        disposition,
        decisions,
        classification,
        direction,
        copies=_copies(decisions, message, ports, config) if delivered else (),
        reason=culprits[0].reason if culprits else Reason("ok", ""),
        culprits=tuple(decision.recipient for decision in culprits),
    )


def _decided(session: Session, direction: str, ports: Ports, config: Config) -> tuple[Decision, ...]:
    """One decision a recipient; the look-ups of all of them share one deadline."""
    envelope = session.envelope
    _forget_stale_lookups(session, ports, config)
    for recipient in envelope.recipients:
        begin_lookup(session, recipient, ports, config)
    last_asked_at = max((pending.asked_at for pending in session.lookups.values()), default=0.0)
    deadline, now = last_asked_at + config.dns.timeout_s, ports.clock.now()
    found = {address: lookup.finish(pending, deadline, now, ports) for address, pending in session.lookups.items()}
    decisions = []
    for recipient in envelope.recipients:
        wish = policy.wanted(recipient, direction, config)
        known = found.get(recipient.address) if recipient.address else lookup.no_address(recipient.shown)
        decisions.append(policy.decide(recipient, envelope.sender, wish, known if wish.wanted else None, config))
    return tuple(decisions)


def _forget_stale_lookups(session: Session, ports: Ports, config: Config) -> None:
    """An answer to a question from the beginning of a long upload may have outlived its TTL: it is asked anew, which
    the cache answers at once where it has not."""
    oldest = ports.clock.monotonic() - config.dns.timeout_s
    session.lookups = {address: p for address, p in session.lookups.items() if p.asked_at >= oldest}


def _disposition(decisions: tuple[Decision, ...]) -> tuple[Disposition, tuple[Decision, ...]]:
    """One reply stands for all: any deferred defers the message, else any refused refuses it, else any held holds."""
    for action, disposition in _DISPOSITIONS:
        if culprits := tuple(decision for decision in decisions if decision.action is action):
            return disposition, culprits
    return Disposition.DELIVER, ()


def _copies(decisions: tuple[Decision, ...], message: Message, ports: Ports, config: Config) -> tuple[Copy, ...]:
    groups = copies.group(decisions, message)
    return tuple(_copy(form, members, message, ports, config) for form, members in groups)


def _copy(form: Form, members: tuple[Decision, ...], message: Message, ports: Ports, config: Config) -> Copy:
    recipients = tuple(decision.recipient for decision in members)
    keys = tuple({decision.key.fingerprint: decision.key for decision in members if decision.key}.values())
    if form is Form.SMIME:
        authenticated = config.smime.cipher.endswith("-gcm")
        rewrite = rewrap.smime(message, partial(_encrypt_cms, keys, config), authenticated=authenticated)
    elif form is Form.OPENPGP:
        rewrite = rewrap.openpgp(message, partial(_encrypt_pgp, keys, ports))
    else:
        rewrite = rewrap.unchanged(message)
    return Copy(form, recipients, rewrite)


def _encrypt_cms(
    keys: tuple[X509Key | PGPKey, ...], config: Config, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, X509Key)]
    _nobody_left_out(keys, certificates)
    options = config.smime
    return cms.encrypt(content, size, certificates, cipher=options.cipher, rsa_padding=options.rsa_padding)


def _encrypt_pgp(
    keys: tuple[X509Key | PGPKey, ...], ports: Ports, content: Iterable[bytes], size: int
) -> Iterator[bytes]:
    certificates = [key for key in keys if isinstance(key, PGPKey)]
    _nobody_left_out(keys, certificates)
    return pgp.encrypt(content, certificates, ports.openpgp)


def _nobody_left_out(wanted: Sized, found: Sized) -> None:
    if len(wanted) != len(found) or not wanted:
        raise EncryptionError(f"{len(wanted)} recipients share a copy, but {len(found)} keys fit its form")
