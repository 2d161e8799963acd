"""Asks Postfix's own programs about its queue and its configuration.

Promises: nothing is changed.  Every program run is bounded in time, and so is the whole.  If something cannot be found
out, it raises PostfixUnclear and never gives an answer that might be wrong.  ``folder`` is Postfix's configuration
folder, "" for its programs' default.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla.adapters import stamps
from smilla.errors import PostfixUnclear

_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")
_PROGRAM_S = 30.0
_LOOK_S = 150.0
_QUEUE_ID = re.compile(r"[0-9A-Za-z]+")
_UNLISTED = ("corrupt", "saved")  # folders of the queue directory that postqueue does not list
_MOST_ROUNDS = 5
_FILE = re.compile(r"\w+:(/[^\s,{}]+)")  # in the name of a table
_PROXY = re.compile(r"^(?:proxy|proxywrite):")
_PROXIED_MEMBER = re.compile(r"(?<=[{,\s])(?:proxy|proxywrite):(?=\w+:[/{])")
_INDEXED = (".db", ".lmdb", ".cdb", ".dir")  # what postmap makes from it
_ENDS = ("", *_INDEXED, ".pag")


def is_installed() -> bool:
    """Are Postfix's programs installed?"""
    return _program("postconf") is not None


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS]))


@dataclass(frozen=True, slots=True)
class Service:
    """A line of master.cf: name (for smtpd: port or address), type, program, chroot (y, n or -) and -o options."""

    name: str
    kind: str
    program: str
    chroot: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """The values we asked for from main.cf and Postfix's defaults, and the services of master.cf."""

    main: Mapping[str, str]
    services: tuple[Service, ...]

    def value(self, service: Service, name: str) -> str:
        """The value that applies to this service."""
        return service.options.get(name, self.main.get(name, ""))

    def service(self, name: str, kind: str = "unix") -> Service | None:
        """The service of that name."""
        return next((found for found in self.services if (found.name, found.kind) == (name, kind)), None)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was before we read it: its stamp, and when it was changed (adapters/stamps.py)."""

    stamp: str
    changed_at: float


def port_of(name: str) -> int:
    """The port of a service of type inet (smtp, 10025, [::1]:10025), 0 if nobody knows a service of that name."""
    port = name.rpartition(":")[2]
    with suppress(OSError):
        return int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")
    return 0


class Postfix:
    """One instance of Postfix.  Every method raises PostfixUnclear; all calls together may take ``timeout_s``.
    ``files`` are the files on which its answers about the configuration rest."""

    def __init__(self, folder: str = "", timeout_s: float = 600.0) -> None:
        self.files: dict[str, File] = {}
        self._options = ["-c", folder] if folder else []
        self._deadline = time.monotonic() + timeout_s

    # --- the configuration

    def folder(self) -> str:
        """The configuration folder, as a resolved path."""
        raw = self._run("postconf", "-xh", "config_directory").decode("utf-8", "surrogateescape").strip()
        return str(Path(raw).resolve())

    def settings(self, names: Sequence[str], as_written: Sequence[str] = ()) -> Settings:
        """The services, and these parameters of main.cf; those in ``as_written`` keep their $names."""
        folder = self.folder()
        self._rests_on(f"{folder}/main.cf", f"{folder}/master.cf")
        main = dict(_pairs(self._run("postconf", "-x", *names)))
        if as_written:
            main |= _pairs(self._run("postconf", *as_written))
        fields: dict[str, dict[str, str]] = {}
        for name, value in _pairs(self._run("postconf", "-F", "*/*/command", "*/*/chroot")):
            service, _, field = name.rpartition("/")
            fields.setdefault(service, {})[field] = value
        options: dict[str, dict[str, str]] = {}
        for name, value in _pairs(self._run("postconf", "-Px")):
            service, _, option = name.rpartition("/")
            options.setdefault(service, {})[option] = value
        return Settings(main, tuple(_service(name, found, options.get(name, {})) for name, found in fields.items()))

    def value(self, name: str, *, as_written: bool = False) -> str:
        """One parameter from main.cf or Postfix's defaults; ``as_written`` keeps its $names."""
        return self._run("postconf", "-h" if as_written else "-xh", name).decode("utf-8", "surrogateescape").strip()

    def looked_up(self, table: str, key: str) -> str:
        """What a table (``regexp:/etc/postfix/x``) has for a key, "" if nothing."""
        done = self._queried(table, key)
        if done.returncode == 1 and not _faults(done.stderr):
            return ""
        return _output("postmap", done).decode("utf-8", "surrogateescape").strip()

    def fails(self, table: str, key: str) -> bool:
        """Does the look-up of a key in a table fail, as it does in ``fail:``?"""
        return b": query error: " in self._queried(table, key).stderr

    def _queried(self, table: str, key: str) -> subprocess.CompletedProcess[bytes]:
        self._rests_on(*_files_of(table))
        return self._done("postmap", "-q", key, behind_proxy(table))

    def _rests_on(self, *paths: str) -> None:
        for path in paths:
            if path not in self.files:
                self.files[path] = File(stamps.stamp(path), stamps.changed_at(path))

    # --- the queue

    def headers_in_queue(self) -> Iterator[tuple[str, bytes]]:
        """The queue ID and the header of every message, one after the other.

        Meanwhile a message may be delivered or get another ID.  So the queue is listed again until a list has nothing
        new.  A message that could not be read must be gone from the queue, or PostfixUnclear is raised.
        """
        self._nothing_unlisted()
        seen: set[str] = set()
        for _ in range(_MOST_ROUNDS):
            listed = set(self._queue_ids())
            if listed <= seen:
                return
            for queue_id in sorted(listed - seen):
                done = self._done("postcat", "-hq", queue_id)
                if done.returncode == 0:
                    seen.add(queue_id)
                    yield queue_id, done.stdout
                elif queue_id in self._queue_ids():
                    raise PostfixUnclear(f"postcat -hq {queue_id}: {_last_line(done.stderr)}")
        raise PostfixUnclear("the queue changes faster than it can be read; try again when less mail is on its way")

    def message(self, queue_id: str) -> bytes:
        """A message in the queue, header and body."""
        return self._run("postcat", "-bhq", queue_id)

    def _queue_ids(self) -> Iterator[str]:
        for line in self._run("postqueue", "-j").splitlines():
            try:
                queue_id = json.loads(line)["queue_id"]
            except (ValueError, KeyError, TypeError) as error:
                raise PostfixUnclear(f"postqueue -j: {error!r}") from error
            if not isinstance(queue_id, str) or not _QUEUE_ID.fullmatch(queue_id):
                raise PostfixUnclear(f"postqueue -j: {queue_id!r} is not a queue ID")
            yield queue_id

    def _nothing_unlisted(self) -> None:
        folder = Path(self._run("postconf", "-xh", "queue_directory").decode("utf-8", "surrogateescape").strip())
        for place in (folder / name for name in _UNLISTED):
            if not os.access(folder, os.X_OK) or (place.exists() and not os.access(place, os.R_OK | os.X_OK)):
                raise PostfixUnclear(f"{place}: cannot be read; do this as root")
            if found := next((path for path in place.rglob("*") if not path.is_dir()), None):
                raise PostfixUnclear(f"{found}: nobody can tell whether this message is sealed; move it away")

    # --- programs

    def _run(self, name: str, *arguments: str) -> bytes:
        return _output(name, self._done(name, *arguments))

    def _done(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        program = _program(name)
        if program is None:
            raise PostfixUnclear(f"{name} is not installed here")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise PostfixUnclear("asking Postfix took too long; nobody can tell what is still in its queue")
        argv = [program, *self._options, *arguments]
        try:
            return subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=min(left, _PROGRAM_S),
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as error:
            raise PostfixUnclear(f"{name} did not answer in time") from error
        except OSError as error:
            raise PostfixUnclear(f"{program}: {error.strerror}") from error


def _output(name: str, done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode != 0:
        raise PostfixUnclear(f"{name}: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def _faults(raw: bytes) -> list[bytes]:
    """The lines on stderr that are errors, not just warnings about main.cf."""
    return [line for line in raw.splitlines() if b"fatal: " in line or b"error: " in line or b" open " in line]


def _last_line(raw: bytes) -> str:
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].partition(": ")[2] or lines[-1] if lines else ""


def behind_proxy(table: str) -> str:
    """The table that ``proxy:hash:/x`` means.  Postfix asks proxymap(8) for it, which may not run now; what the table
    has is the same.  Within a pipemap or unionmap each member may have the prefix."""
    bare = _PROXY.sub("", table)
    return _PROXIED_MEMBER.sub("", bare) if bare.startswith(("pipemap:", "unionmap:")) else bare


def _files_of(table: str) -> Iterator[str]:
    for path in _FILE.findall(table):
        yield path
        yield from (f"{path}{end}" for end in _INDEXED if Path(f"{path}{end}").exists())


def missing_file(table: str) -> str:
    """The file of a table that is not there, nor anything that postmap makes from it; "" if none is missing, or nobody
    can tell."""
    return next((path for path in _FILE.findall(table) if not any(_may_be(f"{path}{end}") for end in _ENDS)), "")


def _may_be(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return True


def _pairs(raw: bytes) -> Iterator[tuple[str, str]]:
    for line in raw.decode("utf-8", "surrogateescape").splitlines():
        name, _, value = line.partition("=")
        yield name.strip(), value.strip()


def _service(name: str, fields: Mapping[str, str], options: Mapping[str, str]) -> Service:
    service, _, kind = name.rpartition("/")
    program = (fields.get("command", "").split() or [""])[0]
    return Service(service, kind, program, fields.get("chroot", "-"), options)


def look(configuration: Path, folders: Iterable[str] = ("",)) -> None:
    """Runs ``smilla config check --postfix`` for each of these folders of Postfix's configuration ("": the usual one).
    The findings go into postfix.json, not to the caller."""
    argv = [sys.executable, "-m", "smilla", "config", "check", "--postfix", "--config", str(configuration)]
    for folder in folders:
        which = ["--postfix-config", folder] if folder else []
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(argv + which, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LOOK_S)
