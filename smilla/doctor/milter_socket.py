"""What listens at [milter] socket?  Spoken to in the milter protocol: whatever else answers there is no filter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from smilla.adapters import as_user, milter_client
from smilla.adapters.milter_client import Who
from smilla.config import Config
from smilla.doctor.finding import Finding, Kind, error, fine, warning
from smilla.doctor.rights import Service, folder_of_sockets, restart
from smilla.server import listener

_TIMEOUT_S = 8.0  # an SMTP server may wait for six seconds before it greets (postscreen)
_ELSEWHERE = "choose another [milter] socket, or stop what listens there"
_START, _ANEW = "start smilla", "smilla makes the socket anew as it starts"
_WHY = "smilla cannot listen there, and the MTA would ask a stranger about its mail"


def problems(config: Config, service: Service) -> Iterator[Finding]:
    """Is a filter there, or may one be started?"""
    socket = config.milter.socket
    subject = f"socket {socket}"
    answer = milter_client.ask(socket, _TIMEOUT_S)
    if answer.who is Who.SMILLA:
        yield fine(Kind.SOCKET, subject, "a filter listens")
    elif answer.who is Who.FILTER:
        what = "another filter listens there; it does not ask for the right to replace a body"
        yield error(Kind.SOCKET_TAKEN, subject, what, _ELSEWHERE, _WHY)
    elif listener.UnixPath.fits(socket) and (found := _no_socket(subject, Path(socket.partition(":")[2]))):
        yield found
    elif answer.who is Who.DENIED and (left := _left_behind(subject, Path(socket.partition(":")[2]))):
        yield left
    elif answer.who is Who.DENIED:
        what = f"this user may not connect ({answer.text})"
        yield error(
            Kind.SOCKET_DENIED, subject, what, "run this check as root, or give the socket another socket_group"
        )
    elif listener.UnixPath.fits(socket):
        yield _of_path(subject, Path(socket.partition(":")[2]), answer, service)
    elif answer.who is Who.OTHER:
        yield _taken(subject, answer.text)
    else:
        yield fine(Kind.SOCKET, subject, "nobody listens yet")


def _of_path(subject: str, path: Path, answer: milter_client.Answer, service: Service) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        if str(folder) in service.run_folders:
            return fine(Kind.SOCKET, subject, f"nobody listens yet; {service.unit} makes {folder} when it starts")
        return error(Kind.SOCKET_FOLDER, subject, f"no folder {folder}", *folder_of_sockets(folder, service))
    if answer.who is Who.OTHER:
        return _taken(subject, answer.text)
    if path.is_socket():
        return warning(
            Kind.SOCKET, subject, "nobody listens; what is there was left behind", restart() or _START, _ANEW
        )
    return fine(Kind.SOCKET, subject, "nobody listens yet")


def _no_socket(subject: str, path: Path) -> Finding | None:
    """Said before that nobody may connect to it, which is no wonder."""
    with suppress(OSError):
        if os.path.lexists(path) and not path.is_socket():
            return error(Kind.SOCKET_TAKEN, subject, f"{path} is no socket", f"move {path} away", _WHY)
    return None


def _left_behind(subject: str, path: Path) -> Finding | None:
    """A socket of another user's, to which this one may not connect, though nobody listens there.  The kernel lists
    those that listen by the path that they were bound to: smilla's own is renamed once it is ready (UnixPath)."""
    with suppress(OSError):
        owner = as_user.name_of(path.stat().st_uid)
        lines = Path("/proc/net/unix").read_text("utf-8", "replace").splitlines()
        named = {Path(words[7]).name for words in (line.split(maxsplit=7) for line in lines) if len(words) == 8}
        if path.name not in named and not any(name.startswith(f".{path.name}.") for name in named):
            what = f"nobody listens; what is there was left behind by {owner}"
            return warning(Kind.SOCKET, subject, what, restart() or _START, _ANEW)
    return None


def _taken(subject: str, text: str) -> Finding:
    if text == milter_client.SILENT:
        what = f"what listens there is no filter, or a smilla that hangs: {text}"
        return error(Kind.SOCKET_TAKEN, subject, what, restart() or "restart smilla", f"if it is another: {_ELSEWHERE}")
    return error(Kind.SOCKET_TAKEN, subject, f"what listens there is no filter: {text}", _ELSEWHERE, _WHY)
