"""Which keys a message brings, if anything may be learned from it.

Promises: only inbound mail from strangers teaches, and never a key of a local address.  Nothing is learned while smilla
observes, and nothing from a message that our own verifiers do not vouch for.  Pure: what is found is kept elsewhere,
once the message has been accepted.
"""

from __future__ import annotations

from smilla import log_learned, policy
from smilla.config import Config
from smilla.learning import autocrypt, smime
from smilla.learning.authenticated import Sender, UnprovenError, sender_of
from smilla.model import Direction, LearnedKey
from smilla.policy import rules
from smilla.ports import Ports
from smilla.session import Session

_LARGEST = 32 * 1024  # octets of a key with its path, that strangers may have us keep
_KEY_OF = {autocrypt.WAY: autocrypt.key_of, smime.WAY: smime.key_of}
_MAY_OFFER = {autocrypt.WAY: autocrypt.may_offer, smime.WAY: smime.may_offer}


def keys_in(session: Session, ports: Ports, config: Config) -> tuple[LearnedKey, ...]:
    """The keys that the message brings for its sender, judged as of now."""
    if not _may_teach(session, config):
        return ()
    now = ports.clock.now()
    try:
        sender = sender_of(session.message, config.transport.authserv_id, now)
    except UnprovenError as why:
        log_learned.not_learned(session.queue_id, str(why))
        return ()
    if rules.is_in(sender.address.domain, config.local_domains):
        log_learned.not_learned(session.queue_id, "From is a local address")
        return ()
    found = (_key(way, session, sender, ports) for way in config.learned.accept)
    return tuple(key for key in found if key is not None)


def _may_teach(session: Session, config: Config) -> bool:
    """A cheap look before anything is read."""
    if config.observe or not any(_MAY_OFFER[way](session.message) for way in config.learned.accept):
        return False
    is_inbound = policy.direction(session.client, config) is Direction.INBOUND
    return is_inbound and not policy.is_ours(session.client, config)


def _key(way: str, session: Session, sender: Sender, ports: Ports) -> LearnedKey | None:
    try:
        key = _KEY_OF[way](session.message, sender, ports)
        if key is not None and len(key.raw) > _LARGEST:
            raise UnprovenError(f"the key has more than {_LARGEST} octets")
        return key
    except UnprovenError as why:
        log_learned.not_learned(session.queue_id, str(why))
        return None


def keep(keys: tuple[LearnedKey, ...], session: Session, ports: Ports) -> None:
    """The message was accepted.  Raises nothing: mail goes on, whatever becomes of the store."""
    for key in keys:
        if ports.learned is not None and ports.learned.learn(key):
            log_learned.learned(session.queue_id, key)
