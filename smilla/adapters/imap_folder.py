"""One folder of a mailbox over IMAP (RFC 3501, RFC 4315; RFC 3502 where a server has it).

Promises: nothing is marked as seen.  No message is expunged but the one that was asked for, since UID EXPUNGE names it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, IMAPClientReadOnlyError

from smilla.errors import MailboxError, MailboxLost, MailboxRefused
from smilla.model.mailbox import Draft, Marks, Stored, Wanted

_DELETED, _RECENT = "\\Deleted", "\\Recent"
_APPENDUID = re.compile(rb"\[APPENDUID (\d+) (\d+(?::\d+)?(?:,\d+(?::\d+)?)*)\]", re.IGNORECASE)
_NO_IN_THE_MIDST = "unexpected response while waiting for continuation"  # imapclient's words; the connection stands
_MOST_TOLD = 10_000  # UIDs of messages that were written together
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_SIZE = b"RFC822.SIZE"
_AT_ONCE = 50_000  # UIDs in one answer: imaplib reads lines of a million octets
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class Appends:
    """Over one server: may several messages go in one command?  Until one fails in its midst."""

    are_together = True


class IMAPFolder:
    """mailbox.store.Folder.  The name of a message is its UID; ``place`` is the first UID that a new message may
    have."""

    chooses_names = False

    def __init__(self, name: str, client: Any, appends: Appends, *, is_read_only: bool) -> None:
        self.name = name
        self._client, self._appends = client, appends
        with self._problems():
            selected = client.select_folder(name, readonly=is_read_only)
        if b"UIDVALIDITY" not in selected or b"UIDNEXT" not in selected:
            raise MailboxError(f"{name}: its messages have no lasting numbers (UIDVALIDITY, UIDNEXT)")
        lasting = selected.get(b"PERMANENTFLAGS")
        if lasting is not None and not is_read_only and _DELETED.encode() not in lasting:
            raise MailboxError(f"{name}: this user may not remove messages there")
        self.validity = str(selected[b"UIDVALIDITY"])
        self._next, self._count = int(selected[b"UIDNEXT"]), int(selected[b"EXISTS"])

    def names(self, wanted: Wanted) -> Sequence[str]:
        """See mailbox.store.Folder."""
        words = []
        if wanted.since_at is not None:
            words.append(f"SINCE {_day(wanted.since_at)}")
        if wanted.before_at is not None:
            words.append(f"BEFORE {_day(wanted.before_at)}")
        words.append(wanted.search)
        criteria = " ".join(filter(None, words)) or "ALL"
        found: set[int] = set()
        with self._problems():
            if self._count <= _AT_ONCE:
                found.update(self._client.search(criteria))
            else:
                # From the last to the first: what others expunge meanwhile moves messages into what is still to come.
                for first in reversed(range(1, self._count + 1, _AT_ONCE)):
                    last = f"{first + _AT_ONCE - 1}" if first + _AT_ONCE <= self._count else "*"
                    found.update(self._client.search(f"{first}:{last} {criteria}"))
        return [str(uid) for uid in sorted(found)]

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """See mailbox.store.Folder."""
        with self._problems():
            found = self._client.fetch(_uids(names), [_SIZE.decode()]) if names else {}
        return {str(uid): int(one.get(_SIZE, 0)) for uid, one in found.items()}

    def read(self, names: Sequence[str]) -> dict[str, Stored | None]:
        """See mailbox.store.Folder."""
        try:
            found = self._fetched(names, "BODY.PEEK[]")
        except MailboxLost:
            raise
        except MailboxError:
            if len(names) == 1:
                return dict.fromkeys(names)
            return {name: stored for one in names for name, stored in self.read([one]).items()}
        return {
            name: Stored(one[b"BODY[]"], _marks_of(one)) if isinstance(one.get(b"BODY[]"), bytes) else None
            for name, one in found.items()
        }

    def marks(self, names: Sequence[str]) -> dict[str, Marks]:
        """See mailbox.store.Folder."""
        return {name: _marks_of(one) for name, one in self._fetched(names).items()}

    def reserve(self, old: str, raw: bytes) -> str:
        """See mailbox.store.Folder."""
        return str(self._next)

    def write(self, drafts: Sequence[Draft]) -> list[str | MailboxRefused]:
        """See mailbox.store.Folder."""
        answers: dict[str, str | MailboxRefused] = {
            draft.old: MailboxRefused(
                f"{self.name}: the message has a NUL, or a bare CR or LF, which IMAP would change"
            )
            for draft in drafts
            if _BARE.search(draft.raw)
        }
        left = [draft for draft in drafts if draft.old not in answers]
        names = self._appended_together(left) if len(left) > 1 else None
        if names is not None:
            answers |= {draft.old: name for draft, name in zip(left, names, strict=True)}
        else:
            answers |= {draft.old: self._appended(draft) for draft in left}
            self._appends.are_together = True
        return [answers[draft.old] for draft in drafts]

    def _appended_together(self, drafts: Sequence[Draft]) -> list[str] | None:
        """In one command, which writes all or nothing (RFC 3502 section 6.3.11); None if the server wrote nothing."""
        if not (self._appends.are_together and self._client.has_capability("MULTIAPPEND")):
            return None
        messages = [{"msg": it.raw, "flags": sorted(it.marks.flags), "date": _came_at(it.marks)} for it in drafts]
        try:
            answer, texts = self._client.multiappend(self.name, messages)
        except (IMAPClientAbortError, OSError) as error:
            if _NO_IN_THE_MIDST in str(error):
                return None
            # Should another text of imapclient mean the same, this ends it: the next time each goes alone.
            self._appends.are_together = False
            raise MailboxLost(f"{self.name}: {error}") from error
        except IMAPClientError:
            return None
        if answer != "OK":
            return None
        uids = self._told(b" ".join(text for text in texts if isinstance(text, bytes)))
        return uids if len(uids) == len(drafts) else [""] * len(drafts)

    def _appended(self, draft: Draft) -> str | MailboxRefused:
        try:
            flags, came_at = sorted(draft.marks.flags), _came_at(draft.marks)
            answer = self._client.append(self.name, draft.raw, flags, came_at)
        except (IMAPClientAbortError, OSError) as error:
            raise MailboxLost(f"{self.name}: {error}") from error
        except IMAPClientError as error:
            return MailboxRefused(f"{self.name}: {error}", is_full="QUOTA" in str(error).upper())
        uids = self._told(answer)
        return uids[0] if len(uids) == 1 else ""

    def _told(self, answer: bytes) -> list[str]:
        """The UIDs that the server has given to new messages, as far as it tells (RFC 4315 section 3)."""
        told = _APPENDUID.search(answer)
        if told is None:
            return []
        if told[1].decode() != self.validity:
            raise MailboxError(f"{self.name}: the server has numbered its messages anew (UIDVALIDITY); run it again")
        uids: list[int] = []
        for one in told[2].split(b","):
            first, _, last = one.partition(b":")
            uids += islice(range(int(first), int(last or first) + 1), _MOST_TOLD)
        self._next = max([self._next, *(uid + 1 for uid in uids)])
        return list(map(str, uids))

    def written(self, places: Collection[str]) -> dict[str, set[str]]:
        """See mailbox.store.Folder."""
        first = min(map(int, places))
        with self._problems():
            self._client.noop()
            uids = self._client.search(f"UID {first}:*")
        # N:* always has the last message in it, whatever N is.
        return {place: {str(uid) for uid in uids if uid >= int(place)} for place in places}

    def keeps(self, old: Marks, new: Marks) -> bool:
        """See mailbox.store.Folder."""
        return old.flags <= new.flags and _came_at(old) == _came_at(new)

    def change_flags(self, name: str, added: frozenset[str], removed: frozenset[str]) -> None:
        """See mailbox.store.Folder."""
        with self._problems():
            if added:
                self._client.add_flags([int(name)], sorted(added), silent=True)
            if removed:
                self._client.remove_flags([int(name)], sorted(removed), silent=True)

    def remove(self, messages: Mapping[str, Marks], keep: str) -> set[str]:
        """See mailbox.store.Folder."""
        return self._moved(messages, keep) if keep else self._expunged(messages)

    def _moved(self, messages: Mapping[str, Marks], keep: str) -> set[str]:
        now = self.marks(list(messages))
        same = [name for name, marks in messages.items() if name in now and now[name].flags == marks.flags]
        if same:
            with self._problems():
                self._client.move(_uids(same), keep)
        there = self._fetched(same)
        return {name for name in messages if name not in now or (name in same and name not in there)}

    def _expunged(self, messages: Mapping[str, Marks]) -> set[str]:
        """What the server says while it sets the mark tells of the last change before."""
        with self._problems():
            told = self._client.add_flags(_uids(messages), [_DELETED])
        changed = {
            name
            for name, marks in messages.items()
            if int(name) in told and _flags(told[int(name)]) - {_DELETED} != marks.flags - {_DELETED}
        }
        same = [name for name in messages if name not in changed]
        if same:
            with self._problems():
                self._client.uid_expunge(_uids(same))
        there = self._fetched(same)
        for name in (*changed, *there):
            self.restore(name, messages[name])
        return {name for name in same if name not in there}

    def is_being_removed(self, marks: Marks) -> bool:
        """See mailbox.store.Folder."""
        return _DELETED in marks.flags

    def restore(self, name: str, marks: Marks) -> None:
        """See mailbox.store.Folder."""
        if _DELETED not in marks.flags:
            self.change_flags(name, frozenset(), frozenset({_DELETED}))

    def _fetched(self, names: Sequence[str], *more: str) -> dict[str, dict[bytes, Any]]:
        """What the server has of messages; without those that are gone, also after it was asked what is new."""
        items = ["UID", "FLAGS", "INTERNALDATE", *more]
        found: dict[str, dict[bytes, Any]] = {}
        with self._problems():
            for is_last in (False, True):
                missing = [uid for uid in _uids(names) if str(uid) not in found]
                if missing:
                    fetched = self._client.fetch(missing, items)
                    # A change of another message may be told unasked, by its sequence number alone; where that is one
                    # of our UIDs, imapclient takes it for ours.  The next answer is without it.
                    doubtful = [uid for uid, one in fetched.items() if one[b"SEQ"] == uid]
                    for uid in sorted(doubtful, reverse=True):
                        fetched[uid] = self._client.fetch([uid], items).get(uid, {})
                        # UIDs ascend, so in front of a message whose two numbers are the same, all have that.
                        if fetched[uid].get(b"SEQ") == uid:
                            break
                    found |= {str(uid): dict(one) for uid, one in fetched.items() if b"INTERNALDATE" in one}
                if len(found) == len(names):
                    break
                if not is_last:
                    self._client.noop()
        return found

    @contextmanager
    def _problems(self) -> Iterator[None]:
        with problems(self.name):
            yield


def _uids(names: Iterable[str]) -> list[int]:
    return list(map(int, names))


def _came_at(marks: Marks) -> datetime:
    return datetime.fromisoformat(marks.date)


def _marks_of(found: Mapping[bytes, Any]) -> Marks:
    return Marks(_flags(found[b"FLAGS"]), found[b"INTERNALDATE"].isoformat())


def _flags(told: Sequence[bytes]) -> frozenset[str]:
    """Without \\Recent, which no client can set."""
    return frozenset(flag.decode("ascii", "surrogateescape") for flag in told) - {_RECENT}


def _day(at: datetime) -> str:
    return f"{at.day}-{_MONTHS[at.month - 1]}-{at.year}"


@contextmanager
def problems(what: str) -> Iterator[None]:
    """MailboxLost if the connection is gone, MailboxError if the server says no."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise MailboxError(f"{what}: {error}") from error
    except IMAPClientReadOnlyError as error:
        raise MailboxError(f"{what}: {error}") from error
    except (IMAPClientAbortError, OSError) as error:
        raise MailboxLost(f"{what}: {error}") from error
    except (IMAPClientError, ValueError, KeyError) as error:
        raise MailboxError(f"{what}: {error}") from error
