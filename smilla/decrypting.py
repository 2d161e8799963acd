"""What smilla decrypt does with a message, from RCPT to its end: the filter the other way round.

Promises: here, and nowhere else in smilla, a message that cannot be dealt with goes on as it came, since it is
ciphertext and as safe as before.  So every failure before the first change of the MTA's message is answered "go on";
after it, 451, since half a message must never be delivered.  Mail for recipients without a rule is never touched.

One milter changes the message of all its recipients.  So all of them must have a rule, and the keys of each must open
it: otherwise somebody could have a message that she has copied on its way decrypted for herself, by sending it to its
reader and to herself.  For the same reason a key counts for the recipients of its rule alone.

What the header says of it (RFC 8601) would be worth nothing if strangers could say it too.  So fields that claim the
same, in our name, are removed from every message for a recipient with a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from smilla import address as addresses
from smilla import log, log_decrypt
from smilla.answer import reply
from smilla.classify import classify
from smilla.copies import rewrap
from smilla.decrypt import harmless, signature
from smilla.decrypt.message import checked, decrypted, rejoined
from smilla.decrypt.signature import OPENPGP, SMIME, Sender
from smilla.errors import AddressError, NotDecrypted, SmillaError, code_of
from smilla.formats import authentication_results
from smilla.handover import in_place
from smilla.keys.discovery import directory
from smilla.keys.validity.certificate import read
from smilla.model import Candidate, Format, Header, HeaderEdits, Message, MessageKind, Recipient, Rewrite
from smilla.policy.rules import is_for
from smilla.ports import Metrics
from smilla.value import value

if TYPE_CHECKING:
    from smilla.address import EmailAddress
    from smilla.config import Config
    from smilla.decrypt.held_key import HeldKey
    from smilla.decrypt.message import Decrypted
    from smilla.keys.validity.x509_paths import TrustStore
    from smilla.ports import MTA, Clock, KeyFolder, OpenPGPReader
    from smilla.session import Session

METHOD = "x-decrypt"
_METHODS = (METHOD, SMIME, OPENPGP)
_GO_ON = reply.Reply(reply.Verb.ACCEPT)
_NAMELESS = "localhost"
_UNCOUNTED = Metrics()


@value
class Reader:
    """A [[decrypt_rule]]: for whom it is, and what opens their mail."""

    pattern: str
    keys: tuple[HeldKey, ...] = ()
    openpgp: OpenPGPReader | None = None


@value
class Believed:
    """Whose signatures count: the authorities of [smime] ca_file, and the folder of keys.  ``detached``: see
    signature.Sender.  ``metrics`` counts what they gave.  ``cleaner`` makes what cleans the HTML of one message."""

    clock: Clock
    folder: KeyFolder
    trusted: TrustStore | None = None
    detached: Callable[[bytes, bytes, Sequence[bytes]], tuple[str, str]] | None = None
    metrics: Metrics = _UNCOUNTED
    cleaner: Callable[[], Callable[[str], str | None]] | None = None


@value
class _Done:
    """What becomes of a message: the changes, and the fields of its log lines; ``reason`` if it stays encrypted."""

    rewrite: Rewrite
    told: dict[str, str]
    reason: NotDecrypted | None = None


class Decrypting:
    """One message; has the methods of ``filter.Filter``.  ``busy`` is entered while the work is done."""

    unfinished: Callable[[], None] | None = None

    def __init__(
        self,
        session: Session,
        readers: Sequence[Reader],
        config: Config,
        believed: Believed,
        busy: AbstractContextManager[object] | None = None,
    ) -> None:
        self.session = session
        self._readers, self._config, self._believed = readers, config, believed
        self._busy = busy or nullcontext()
        self._is_touched = False

    @property
    def may_pass(self) -> bool:
        """After an error: nothing of the MTA's message has been changed yet."""
        return not self._is_touched

    def recipient(self, raw: str, parameters: tuple[str, ...] = (), *, alone: bool) -> None:
        """Nobody is turned away."""
        self.session.recipient(raw, parameters)

    def end(self, mta: MTA) -> reply.Reply:
        """Decrypts what may be decrypted, and changes the MTA's message.  Raises whatever goes wrong."""
        recipients = self.session.envelope.recipients
        readers = [self._reader(recipient) for recipient in recipients]
        known = [reader for reader in readers if reader is not None]
        if not known:
            return _GO_ON
        with self._busy:
            done = self._done(known, is_for_others=len(known) < len(readers))
        if not self._config.observe:
            self._is_touched = bool(done.rewrite.body or done.rewrite.removed or done.rewrite.inserted)
            in_place.apply(mta, done.rewrite, self.session.message)
        ours = [recipient for recipient, reader in zip(recipients, readers, strict=True) if reader is not None]
        self._tell(done, ours)
        return _GO_ON

    def failed(self, error: BaseException | None = None) -> None:
        """The log's lines about a message that this error ended, or an earlier one."""
        ours = [recipient for recipient in self.session.envelope.recipients if self._reader(recipient) is not None]
        self._believed.metrics.decrypted(len(ours), code_of(error), observed=self._config.observe)
        detail = "an internal error" + ("; the MTA keeps it" if self._is_touched else "")
        log_decrypt.not_decrypted(self.session.queue_id, [r.shown for r in ours], code_of(error), detail)

    def _reader(self, recipient: Recipient) -> Reader | None:
        return next((reader for reader in self._readers if is_for(reader.pattern, recipient)), None)

    def _done(self, readers: Sequence[Reader], *, is_for_others: bool) -> _Done:
        message = self.session.message
        claims = HeaderEdits(_claims(message, self._authserv_id))
        unchanged = Rewrite(claims.removed)
        if classify(message).kind is not MessageKind.ENCRYPTED:
            return _Done(unchanged, {})
        try:
            if is_for_others:
                raise NotDecrypted("other_recipients", "it is also for recipients without a rule")
            return self._opened(message, list(dict.fromkeys(readers)), claims)
        except NotDecrypted as reason:
            return _Done(unchanged, {}, reason)

    def _opened(self, message: Message, readers: Sequence[Reader], claims: HeaderEdits) -> _Done:
        """Raises NotDecrypted."""
        most = self._config.decrypt.max_mib << 20
        if message.body.size > most:
            raise NotDecrypted("too_large", f"it has more than [decrypt] max_mib = {self._config.decrypt.max_mib}")
        if problem := rewrap.problem(message):
            raise NotDecrypted(problem.code, problem.text)
        found = [decrypted(message, reader.keys, reader.openpgp) for reader in readers]
        if any(one != found[0] for one in found):
            raise NotDecrypted("ambiguous", "it does not decrypt to the same for all recipients")
        return self._changes(message, found[0], readers[0].openpgp, claims)

    def _changes(self, message: Message, found: Decrypted, reader: OpenPGPReader | None, claims: HeaderEdits) -> _Done:
        sender, html = self._sender(message), ""
        verdict, inner = signature.verified(found.entity, sender)
        if found.form is Format.OPENPGP and reader is not None and verdict.result == "none":
            verdict = signature.openpgp(reader, found.raw_sealed, sender)
        if not found.authenticated and not verdict.passed:
            checked(inner)
            clean = self._believed.cleaner() if self._believed.cleaner else None
            inner, is_changed = harmless.harmless(inner, self._config.decrypt.html, clean)
            html = self._config.decrypt.html if is_changed else ""
        told = {"format": found.form.value, "authenticated": "yes" if found.authenticated else "no", "html": html}
        properties = ((f"body.{name}", word) for name, word in told.items())
        lines = [authentication_results.written(self._authserv_id, METHOD, "pass", properties)]
        if verdict.result != "none":
            named = authentication_results.written(
                self._authserv_id, verdict.method, verdict.result, verdict.properties
            )
            lines.append(named)
        edits = HeaderEdits(claims.removed, inserted=tuple((authentication_results.NAME, line) for line in lines))
        told |= {"signature": verdict.result, "signer": verdict.signer, "reason": verdict.reason}
        rewrite = rejoined(message, inner, found.form)
        if any(len(value) > rewrap.LONGEST_FIELD for _, value in rewrite.added):  # found out before the body is changed
            raise NotDecrypted("no_entity", "a header field inside is too long for the milter protocol")
        return _Done(rewrap.combined(rewrite, edits), told)

    def _sender(self, message: Message) -> Sender:
        """Whose signature it should be."""
        address, known, believed = _from(message), tuple[Candidate, ...](), self._believed
        if address is not None:
            with suppress(SmillaError, directory.CaseDiffersError, directory.TooManyKeysError):
                known = directory.candidates(address, believed.folder)
        readings = (read(one.raw, pem=True).certificate for one in known if one.format is Format.SMIME)
        held = tuple(reading.raw for reading in readings if reading is not None)
        keys = tuple(one.raw for one in known if one.format is Format.OPENPGP)
        return Sender(address, held, believed.trusted, believed.clock.now(), keys, believed.detached)

    @property
    def _authserv_id(self) -> str:
        """As configured, else what the MTA calls itself."""
        named = self._config.decrypt.authserv_id or self.session.client.mta
        return named if authentication_results.is_value(named) else _NAMELESS

    def _tell(self, done: _Done, ours: Sequence[Recipient]) -> None:
        queue_id, shown = self.session.queue_id, [recipient.shown for recipient in ours]
        metrics, observed = self._believed.metrics, self._config.observe
        if done.reason is not None:
            metrics.decrypted(len(ours), done.reason.code, observed=observed)
        elif done.told:
            result = done.told["signature"]
            metrics.decrypted(
                len(ours), "", (done.told["format"], result if result != "none" else ""), observed=observed
            )
        with log.together():
            if done.reason is not None:
                log_decrypt.not_decrypted(queue_id, shown, done.reason.code, str(done.reason))
            elif done.told:
                log_decrypt.decrypted(queue_id, shown, done.told, observed=self._config.observe)


def _from(message: Message) -> EmailAddress | None:
    """The one mailbox in From; None if there is anything else in the field, or if programs read it differently."""
    fields = message.named("from")
    found = addresses.sole_mailbox(fields[0].raw_value) if len(fields) == 1 else None
    try:
        return addresses.parse(found.folded) if found is not None and not found.ambiguous else None
    except AddressError:
        return None


def _claims(message: Message, authserv_id: str) -> tuple[int, ...]:
    """The fields from outside that say what we would say."""
    return tuple(i for i, header in enumerate(message.headers) if any(_says(header, authserv_id)))


def _says(header: Header, authserv_id: str) -> Iterator[bool]:
    if header.name == authentication_results.NAME.lower():
        yield from (authentication_results.may_claim(header.raw_value, authserv_id, name) for name in _METHODS)
    yield header.name == rewrap.MARK.lower() and b"decrypted" in header.raw_value.lower()
