"""One message on its way through the relay, from MAIL to its end.  Who speaks with the client is relay_dialogue.

Promises: it is judged by one configuration, that of its MAIL.  Whatever fails is answered for it alone, and leaves it
with the client (451).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from smilla import log
from smilla.adapters.spool import SpooledBody
from smilla.adapters.tls_server import ServerTLS
from smilla.answer import reply, report
from smilla.config.values import is_local
from smilla.errors import JournalBusy, JournalError
from smilla.filter import Filter
from smilla.handover import reinject
from smilla.model import Action, Client, Decision, Envelope, Reason, Submission
from smilla.server import relayed
from smilla.server.asking import Asking, Way
from smilla.server.content import Content
from smilla.server.next_hop import NextHop
from smilla.server.service import Runtime
from smilla.session import Session, parsed_recipient

_MOST_RECIPIENTS = 1000
_MOST_HOPS = 100  # RFC 5321 section 6.3
_UNSEEN = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class RelayRuntime(Runtime):
    """The configuration as it applies in the relay; the next hop, which is the ports' ``mailer``, too; and the relay's
    own certificate."""

    next_hop: NextHop = field(kw_only=True)
    tls: ServerTLS | None = field(kw_only=True, default=None)
    ask: Way | None = field(kw_only=True, default=None)  # over which connection, if not over one of its own

    @property
    def needs_tls(self) -> bool:
        """Must a client use TLS before it may log in or send?"""
        options = self.config.relay
        return self.tls is not None and (options.tls_required or (options.auth and not is_local(options.socket)))


class RelayedMessage:
    """The message, its recipients and its content."""

    def __init__(
        self, runtime: RelayRuntime, client: Client, sender: str, parameters: tuple[str, ...], ident: str
    ) -> None:
        """``ident`` is the queue ID that the client gave it, "" if it gave none."""
        config = runtime.config
        self._runtime = runtime
        self._body = SpooledBody(config.spool.folder, config.spool.threshold_kib * 1024)
        session = Session(client, sender, parameters, config.completion, self._body)
        session.answers_each = self._answers_each = config.relay.protocol == "lmtp"
        session.queue_id = _UNSEEN.sub("?", ident) or secrets.token_hex(6).upper()
        self._filter = Filter(session, runtime.ports, config)
        self._asking: Asking | None = None
        if config.relay.ask_recipients:
            named = Submission(session.sender, parameters, (), lambda: iter(()), client, session.queue_id)
            self._asking = Asking(runtime.ask or runtime.next_hop.connect_to_ask, named)
        self._began_at = time.monotonic()
        self._failure: Exception | None = None  # what failed at RCPT
        self.unfinished: tuple[Callable[[], None], str] | None = None  # for ``reinject.finish``, after the answer

    @property
    def envelope(self) -> Envelope:
        """The sender, and the recipients so far."""
        return self._filter.session.envelope

    @property
    def answer_count(self) -> int:
        """How many answers the client awaits at the end."""
        return len(self.envelope.recipients) if self._answers_each else 1

    def recipient(self, address: str, parameters: tuple[str, ...]) -> reply.Reply | None:
        """RCPT: the answer to whom is turned away, None for whom is taken."""
        session = self._filter.session
        if len(self.envelope.recipients) >= _MOST_RECIPIENTS:
            return reply.TOO_MANY
        if (refused := self._refused(address, parameters)) is not None:
            return refused
        try:
            away = self._filter.recipient(f"<{address}>", parameters, alone=not self._runtime.config.observe)
        except Exception as error:  # the end of the message is answered for it
            log.internal_error(session.queue_id, "rcpt")
            self._failure = self._failure or error
            return None
        if away is None:
            return None
        session.withdraw(away.decision.recipient)
        return away.reply

    def _refused(self, address: str, parameters: tuple[str, ...]) -> reply.Reply | None:
        """What the next hop says, if it refuses the recipient."""
        config, queue_id = self._runtime.config, self._filter.session.queue_id
        recipient = parsed_recipient(f"<{address}>", parameters, config.completion)
        detail = self._asking.refusal(recipient) if self._asking is not None else ""
        if not detail:
            return None
        answer = reply.refused_at_rcpt(detail)
        action = Action.REFUSE if answer.verb is reply.Verb.REJECT else Action.DEFER
        decision = Decision(recipient, action, Reason(reinject.REFUSED, detail), "ask_recipients")
        report.refused_at_rcpt(queue_id, decision, self._runtime.ports.metrics)
        return answer

    def content(self) -> Content:
        """The envelope is complete.  Takes the header and the body."""
        if self._asking is not None:
            self._asking.close()
        return Content(self._body)

    def answers(self, content: Content) -> tuple[reply.Reply, ...]:
        """One answer for each recipient, or one for all.  The one broad except: what fails leaves the message with the
        client (451)."""
        session, runtime = self._filter.session, self._runtime
        try:
            session.take(content.message())
            if len(session.message.places.get("received", ())) > _MOST_HOPS:
                return (reply.LOOP,)
            if self._failure is not None:
                raise self._failure
            answers, unfinished = self._handled()
        except JournalError as error:
            self._filter.failed(error)
            if not isinstance(error, JournalBusy):
                log.journal_failed(str(error), session.queue_id)
            return (reply.for_error(error),)
        except Exception as error:
            log.internal_error(session.queue_id, "relay")
            self._filter.failed(error)
            observes = runtime.config.observe
            return (relayed.unjudged(session, runtime.ports) if observes else reply.for_error(error),)
        if unfinished is not None:
            self.unfinished = unfinished, session.queue_id
        return answers

    def _handled(self) -> tuple[tuple[reply.Reply, ...], Callable[[], None] | None]:
        session, ports, config = self._filter.session, self._runtime.ports, self._runtime.config
        if self._answers_each:
            return relayed.handle_each(session, ports, config, self._began_at)
        answer = self._filter.end_by(lambda: relayed.handle(session, ports, config))
        return (answer,), self._filter.unfinished

    def close(self) -> None:
        """Lets go of the next hop, and of the body, which may be large."""
        if self._asking is not None:
            self._asking.close()
        self._body.close()
