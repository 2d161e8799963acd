"""The only importer of Milter: libmilter's callbacks in, edits and replies out.

Promises: no exception leaves a callback, and none lets a message pass.  One message harms no other on the same
connection.  A message is judged by one configuration, the one in force at its MAIL FROM.  Until the end of the message
every answer is "go on", since the reply depends on the content; ``envrcpt`` has the two exceptions.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

import Milter
import milter

from smilla import log
from smilla.adapters.spool import SpooledBody
from smilla.answer import reply
from smilla.errors import MTALost, SmillaError
from smilla.filter import Filter
from smilla.handover.reinject import finish
from smilla.model import Client, Transport
from smilla.server.acknowledge import without_nagle
from smilla.server.service import Handling, Service
from smilla.session import Session

_VERBS = {
    reply.Verb.ACCEPT: Milter.ACCEPT,
    reply.Verb.QUARANTINE: Milter.ACCEPT,
    reply.Verb.TEMPFAIL: Milter.TEMPFAIL,
    reply.Verb.REJECT: Milter.REJECT,
    reply.Verb.DISCARD: Milter.DISCARD,
}
_ACTIONS = Milter.ADDHDRS | Milter.CHGHDRS | Milter.MODBODY | Milter.QUARANTINE | Milter.DELRCPT | Milter.CHGFROM
_LINE_LIMIT = 900
_BEHIND_RECEIVED = 1  # both MTAs count their own Received field as number 0, though they do not show it
_AT_MAIL = (  # what Postfix and Sendmail tell by themselves, and how the client came
    "i {auth_type} {auth_authen} {auth_ssf} {auth_author} {mail_mailer} {mail_host} {mail_addr} "
    "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer} {verify}"
)
_CONTINUE, _NOREPLY = int(Milter.CONTINUE), int(Milter.NOREPLY)
_NO_REPLY_TO_HEADER = int(Milter.P_NR_HDR)
_UNSEEN = re.compile(r"[^!-~]")
_serving = threading.local()  # .connection: the one that this libmilter thread serves


class Connection(Milter.Base):
    """One connection of the MTA: clients one after another, messages one after another."""

    service: Service  # ``serve`` sets it on the class, since libmilter makes the instances

    def __init__(self) -> None:
        self._filter: Handling | None = None
        self._unfinished: tuple[Callable[[], None], str] | None = None
        self._is_lost = False  # the MTA, while it waited for an answer
        self._runtime = self.service.runtime
        self._client = Client()
        self._mta = ""
        self._failure: reply.Reply | None = None  # the answer to this message, once an error has ended it
        self._lost_client: reply.Reply | None = None  # the same for every message, if the client stayed unknown
        self._is_told_of_tls = False  # so that no word of TLS means that there is none
        _serving.connection = self
        self.service.acknowledger.opened()

    def negotiate(self, opts: Any) -> int:
        """The MTA says what it can do.  It is asked to tell at each MAIL how the client came: by itself it does so at
        HELO, and a client need not say that again after STARTTLS; Sendmail does not tell {verify} at all."""
        answer = int(super().negotiate(opts))
        if self._runtime.config.transport.authserv_id and self._actions & Milter.SETSYMLIST:
            self._ctx.setsymlist(Milter.M_ENVFROM, _AT_MAIL)
            self._is_told_of_tls = True
        return answer

    @Milter.noreply
    def connect(self, hostname: str, _family: int, address: Any) -> int:
        """A client has connected to the MTA."""
        ip, port = (address[0], address[1]) if isinstance(address, tuple) and len(address) > 1 else ("", 0)
        daemon_name, mta = self._macro("{daemon_name}"), self._macro("j")
        self._client = Client(ip=ip, daemon_name=daemon_name, host_name=str(hostname), port=port, mta=mta)
        self._mta = self._kind_of_mta()
        return _CONTINUE

    @Milter.noreply
    def hello(self, name: str) -> int:
        """HELO or EHLO; may come more than once."""
        self._client = replace(self._client, helo=str(name))
        return _CONTINUE

    def envfrom(self, sender: str, *parameters: str) -> int:
        """MAIL FROM: a message begins, and with it the configuration that judges it."""
        self._forget()
        if self.service.draining:
            self._say(reply.STOPPING)
            return int(Milter.TEMPFAIL)
        self.service.begin()
        self._failure = self._lost_client
        self._runtime = self.service.runtime
        config = self._runtime.behind(self._mta)
        body = SpooledBody(config.spool.folder, config.spool.threshold_kib * 1024)
        session = Session(self._client, sender, parameters, config.completion, body)
        role, crew = self._runtime.role, self.service.crew
        self._filter = role.begin(session, config, crew) if role else Filter(session, self._runtime.ports, config, crew)
        with self._guarded("mail from"):
            if user := self._macro("{auth_authen}"):
                session.client = replace(self._client, authenticated_as=user)
            if config.transport.authserv_id:
                session.transport = self._transport()
        return _CONTINUE

    def envrcpt(self, raw: str, *parameters: str) -> int:
        """RCPT TO: the search for this recipient's key begins.  Two things are answered here, over SMTP only: too many
        recipients, and a recipient who fails if a rule asks for an answer at RCPT."""
        with self._guarded("rcpt"):
            current = self._current()
            current.session.queue_id = self._queue_id()
            # For sendmail(1), cleanup reports port 0.  An SMTP client may leave the brackets out, but it has a port.
            over_smtp = raw.startswith("<") or current.session.client.port
            away = current.recipient(raw, parameters, alone=bool(over_smtp) and not self._runtime.config.observe)
            if away is not None:
                current.session.withdraw(away.decision.recipient)
                self._say(away.reply)
                return int(_VERBS[away.reply.verb])
        return _CONTINUE

    def header(self, name: str, raw_value: bytes) -> int:
        """One header field, as octets.  pymilter's decorators and dispatch would cost more than the work itself."""
        try:  # not _guarded, which costs more than all the rest here
            # Without SMFIP_HDR_LEADSPC the MTA has dropped the space after the colon.
            value = raw_value if self._protocol & Milter.P_HDR_LEADSPC else b" " + raw_value
            self._current().session.header(name.encode("ascii"), value)
        except BaseException:
            self._fail("header")
        return _NOREPLY if self._protocol & _NO_REPLY_TO_HEADER else _CONTINUE

    header.milter_protocol = _NO_REPLY_TO_HEADER  # type: ignore[attr-defined]  # what Milter.noreply tells the MTA
    header_bytes = header

    @Milter.noreply
    def body(self, block: bytes) -> int:
        """The next octets of the body."""
        if self._failure is None:  # otherwise the answer is known, and the rest is of no use
            with self._guarded("body"):
                self._current().session.body_chunk(block)
        return _CONTINUE

    def eom(self) -> int:
        """The end of the message: the one place where the message is answered."""
        verdict = int(Milter.TEMPFAIL)
        with self._guarded("end of message"):
            current = self._current()
            current.session.queue_id = self._queue_id()
            if self._failure is not None:
                current.failed()
            else:
                verdict = self._ended(current)
        if self._failure is not None:
            verdict = self._answer_failure(self._failure)
        self._drop()
        return verdict

    def _ended(self, current: Handling) -> int:
        try:
            answer = current.end(self)
        except BaseException as error:
            current.failed(error)
            raise
        if answer.code:
            self._say(answer)
        if current.unfinished is not None:
            self.alive()
            if not self._is_lost:  # else it gets no answer, and its client tries again
                self._unfinished = current.unfinished, current.session.queue_id
        return int(_VERBS[answer.verb])

    def _answer_failure(self, failure: reply.Reply) -> int:
        """The error's reply; but "accept" if the message may go on as it came."""
        if self._runtime.config.observe or (self._filter is not None and self._filter.may_pass):
            return int(Milter.ACCEPT)
        self._say(failure)
        return int(_VERBS[failure.verb])

    def abort(self) -> int:
        """The message ends early (RSET, a refusal elsewhere); the connection goes on."""
        self._forget()
        return _CONTINUE

    def close(self) -> int:
        """The connection ends."""
        self._forget()
        return _CONTINUE

    # --- what the filter may ask of the MTA (ports.MTA)

    def replace_body(self, block: bytes) -> None:
        """See ports.MTA."""
        _changed(self.replacebody, block)

    def change_header(self, name: str, number: int, value: str) -> None:
        """See ports.MTA."""
        space = " " if self._protocol & Milter.P_HDR_LEADSPC else ""
        raw = space + value.replace("\r\n", "\n") if value else ""
        if number > 0:
            _changed(self.chgheader, name, number, raw)
        elif number < 0:
            _changed(self.addheader, name, raw, _BEHIND_RECEIVED)
        else:
            _changed(self.addheader, name, raw)

    def delete_recipient(self, raw: str) -> None:
        """See ports.MTA."""
        _changed(self.delrcpt, raw)

    def change_sender(self, sender: str, parameters: str) -> None:
        """See ports.MTA."""
        _changed(self.chgfrom, f"<{sender}>", parameters)

    def quarantine(self, text: str) -> None:
        """See ports.MTA."""
        _changed(super().quarantine, text)

    def alive(self) -> None:
        """See ports.MTA.  If the MTA is gone, the work under way is finished and remembered all the same."""
        try:
            self.progress()
        except milter.error:
            self._is_lost = True

    def failed_outside(self) -> None:
        """The exception now being handled kept a step from reaching its callback, so the message has failed.  If no
        message had begun, the client (hence the direction) stays unknown for all messages that follow."""
        self._failure = self._failure or reply.for_error(sys.exc_info()[1])
        if self._filter is None:
            self._lost_client = self._failure
        log.internal_error(self._known_queue_id(), "pymilter")

    def _fail(self, where: str) -> None:
        """Marks the message as failed by the exception now being handled; its end is then answered with the error's
        reply (451).  Of several errors the first counts."""
        error = sys.exc_info()[1]
        self._failure = self._failure or reply.for_error(error)
        queue_id = self._known_queue_id()
        if isinstance(error, MTALost):
            log.mta_lost(queue_id)
        else:
            log.internal_error(queue_id, where)

    def _guarded(self, where: str) -> _Guard:
        self.service.acknowledger.wake()
        return _Guard(self, where)

    def _current(self) -> Handling:
        if self._filter is None:
            raise SmillaError("the MTA sent a command out of order")
        return self._filter

    def _forget(self) -> None:
        """The message is over.  Whatever the MTA sends next shows that it got the answer."""
        if self._unfinished is not None:
            unfinished, queue_id = self._unfinished
            self._unfinished = None
            finish(unfinished, queue_id)
        self._drop()

    def _drop(self) -> None:
        """Lets go of the message, whose body may be large."""
        if self._filter is not None:
            self._filter = None
            self.service.end()

    def _known_queue_id(self) -> str:
        return self._filter.session.queue_id if self._filter else ""

    def _queue_id(self) -> str:
        return _UNSEEN.sub("?", self._macro("i"))

    def _macro(self, name: str) -> str:
        try:
            value = self.getsymval(name)
        except UnicodeDecodeError as error:  # a user name in Latin-1, for instance
            value = error.object
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")

    def _transport(self) -> Transport | None:
        """How the client brings this message; None if the MTA does not say."""
        names = ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}", "{verify}")
        found = Transport(*map(self._macro, names))
        return found if found.is_encrypted or self._is_told_of_tls else None

    def _kind_of_mta(self) -> str:
        """Which MTA this is: postfix, sendmail, or "" if unknown.  {v} is "Postfix 3.7.11" or "8.17.1.9".  Sendmail
        sends {v} only if configured to; otherwise its interface macros give it away, since Postfix has none."""
        version = self._macro("v")
        if version[:1].isalpha():
            return "postfix"
        is_sendmail = version[:1].isdigit() or self._macro("{if_addr}") or self._macro("{if_name}")
        return "sendmail" if is_sendmail else ""

    def _say(self, answer: reply.Reply) -> None:
        self.setreply(answer.code, answer.enhanced, answer.text[:_LINE_LIMIT].replace("%", "%%"))


def _changed(change: Callable[..., object], *words: object) -> None:
    """Asks the MTA for a change.  Raises MTALost if the MTA does not take it."""
    try:
        change(*words)
    except milter.error as error:
        raise MTALost("the MTA is gone, or does not take this change") from error


class _Guard:
    """The one broad except."""

    __slots__ = ("_connection", "_where")

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection, self._where = connection, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None:
            self._connection._fail(self._where)
        return True


def _end_of_message(ctx: Any) -> int:
    """The end of a message.  It must return an answer and never raise."""
    try:
        return int(ctx.getpriv().eom())
    except BaseException as error:
        log.internal_error("", "end of message")
        answer = reply.for_error(error)
        with suppress(Exception):  # without a text, libmilter's own 451 says enough
            ctx.setreply(answer.code, answer.enhanced, answer.text)
        return int(_VERBS[answer.verb])


def _outside(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """sys.excepthook: gets the errors that pymilter hits before it reaches a callback, such as a header field whose
    name is not ASCII.  The step is answered "go on" and the end of the message 451.  With any other answer libmilter
    would forget the message, and the MTA would wait in vain for the answer to its end."""
    connection = getattr(_serving, "connection", None)
    try:
        raise error
    except BaseException:
        if connection is None:
            log.internal_error("", "pymilter")
        else:
            connection.failed_outside()


def listen(path_or_inet: str, timeout_s: int) -> None:
    """Registers the callbacks and opens the socket (libmilter's notation).  Raises SmillaError."""
    Milter.factory = Connection
    Milter.enable_protocols(Connection, Milter.P_HDR_LEADSPC)
    milter.set_flags(_ACTIONS)
    milter.set_exception_policy(milter.CONTINUE)
    sys.excepthook = _outside
    milter.set_connect_callback(Milter.connect_callback)
    milter.set_helo_callback(lambda ctx, host: ctx.getpriv().hello(host))
    milter.set_envfrom_callback(lambda ctx, *words: ctx.getpriv().envfrom_bytes(*words))
    milter.set_envrcpt_callback(lambda ctx, *words: ctx.getpriv().envrcpt_bytes(*words))
    milter.set_header_callback(lambda ctx, name, value: ctx.getpriv().header_bytes(name, value))
    milter.set_eoh_callback(lambda ctx: ctx.getpriv().eoh())
    milter.set_body_callback(lambda ctx, block: ctx.getpriv().body(block))
    milter.set_eom_callback(_end_of_message)
    milter.set_abort_callback(lambda ctx: ctx.getpriv().abort())
    milter.set_close_callback(Milter.close_callback)
    try:
        milter.setconn(path_or_inet)
        milter.settimeout(timeout_s)
        milter.register(
            "smilla",
            data=lambda ctx: ctx.getpriv().data(),
            unknown=lambda ctx, command: ctx.getpriv().unknown(command),
            negotiate=Milter.negotiate_callback,
        )
        milter.opensocket(True)
        without_nagle()
    except milter.error as error:
        raise SmillaError(
            f"the socket {path_or_inet} cannot be opened ({error}): is the port in use, the address that of another "
            "machine, or the folder not writable for smilla?"
        ) from error


def serve(service: Service) -> None:
    """Answers the MTA until the process ends."""
    Connection.service = service
    milter.main()
