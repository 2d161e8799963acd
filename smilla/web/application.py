"""The status page as a WSGI application: each request is checked before it is answered.

Promises: without a session there is only the form that asks for the token.  Every answer forbids scripts, frames and
anything from another host.  A request for another host name, or a form from another page, is refused.  Nothing that a
request says is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from smilla.config.options import WebOptions
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Snapshot
from smilla.web import page, plots
from smilla.web.access import SESSION_S, Rate, Sessions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

COOKIE = "smilla"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_LARGEST_FORM = 4096
_WRONG_TOKENS, _WINDOW_S = 10, 60.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser would send Origin: null with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page has its facts from; both raise SmillaError.  ``look_up`` gives the lines of the story of one
    address, and takes as long as a message's look-ups may."""

    snapshot: Callable[[], Snapshot]
    look_up: Callable[[str], Iterable[str]]


class Application:
    """For whoever knows the token."""

    def __init__(self, sources: Sources, token: str, options: WebOptions) -> None:
        self._sources, self._domains = sources, options.domains
        self._sessions = Sessions(token, time.time)
        self._hosts = {*_LOOPBACK, *(host.lower() for host in options.hosts)}
        self._wrong_tokens = Rate(_WRONG_TOKENS, _WINDOW_S, time.monotonic)
        self._lookups = Rate(options.lookups_per_minute, _WINDOW_S, time.monotonic)
        self._templates = Environment(
            loader=PackageLoader("smilla.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.globals["clock_time"] = plots.clock_time
        self._style = resources.files("smilla.web").joinpath("style.css").read_bytes()
        self._pages: dict[str, dict[str, Callable[[Request], Response]]] = {
            "/": {"GET": self._status},
            "/lookup": {"GET": self._lookup_form, "POST": self._lookup},
            "/login": {"GET": self._login_form, "POST": self._login},
            "/logout": {"POST": self._logout},
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        request = Request(environ)
        request.max_content_length = request.max_form_memory_size = _LARGEST_FORM
        request.max_form_parts = 10
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = self._told(HTTPStatus(error.code or 500), error.description or "")
            response.headers.extend((n, v) for n, v in error.get_headers() if n == "Allow")
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if _host(request) not in self._hosts:
            text = "This is not a name of this page. Name it in [web] hosts if a reverse proxy uses it."
            return self._told(HTTPStatus.MISDIRECTED_REQUEST, text)
        if request.path == "/style.css" and request.method in ("GET", "HEAD"):
            return Response(self._style, content_type="text/css; charset=utf-8")
        methods = self._pages.get(request.path)
        if methods is None:
            raise NotFound("There is no such page.")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise MethodNotAllowed([*methods])
        if request.method == "POST" and not _is_own_form(request):
            return self._told(HTTPStatus.FORBIDDEN, "This form came from another page.")
        if request.path != "/login" and not self._sessions.is_valid(_cookie(request)):
            return _sent_to("/login")
        return handler(request)

    # --- the session

    def _login_form(self, _: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
        return self._page("login.html", status, problem=problem)

    def _login(self, request: Request) -> Response:
        if not self._sessions.is_token(request.form.get("token", "").strip()):
            return self._not_the_token(request)
        response = _sent_to("/")
        response.set_cookie(
            COOKIE,
            self._sessions.begin(),
            max_age=SESSION_S,
            secure=_host(request) not in _LOOPBACK,  # then a proxy with TLS is in front
            httponly=True,
            samesite="Strict",
        )
        return response

    def _not_the_token(self, request: Request) -> Response:
        """Whoever sends many is told to wait.  The limit is after the comparison, so that nobody can lock out somebody
        who has the token; what keeps guessers out is its length."""
        if self._wrong_tokens.take():
            return self._login_form(request, "That is not the token.", HTTPStatus.FORBIDDEN)
        text = "Too many wrong tokens; wait a minute. The right one is always taken."
        response = self._login_form(request, text, HTTPStatus.TOO_MANY_REQUESTS)
        response.headers["Retry-After"] = f"{_WINDOW_S:.0f}"
        return response

    def _logout(self, request: Request) -> Response:
        if self._is_marked(request):
            self._sessions.end(_cookie(request))
        response = _sent_to("/login")
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response

    def _is_marked(self, request: Request) -> bool:
        return self._sessions.is_mark(_cookie(request), request.form.get("mark", ""))

    # --- the pages

    def _status(self, request: Request) -> Response:
        try:
            snapshot = self._sources.snapshot()
        except SmillaError as error:
            return self._told(HTTPStatus.SERVICE_UNAVAILABLE, f"smilla does not tell: {error}")
        return self._page("status.html", request=request, **page.facts(snapshot, domains=self._domains))

    def _lookup_form(self, request: Request) -> Response:
        return self._page("lookup.html", request=request, address="", story=None, problem="")

    def _lookup(self, request: Request) -> Response:
        address = request.form.get("address", "").strip()
        story: list[str] | None = None
        status, problem = HTTPStatus.OK, ""
        if not self._is_marked(request):
            status, problem = HTTPStatus.FORBIDDEN, "This form is too old; send it again."
        elif not self._lookups.take():
            status, problem = HTTPStatus.TOO_MANY_REQUESTS, "Too many look-ups; wait a minute."
        else:
            try:
                story = list(self._sources.look_up(address))
            except SmillaError as error:
                status, problem = HTTPStatus.BAD_REQUEST, str(error)
        return self._page("lookup.html", status, request=request, address=address, story=story, problem=problem)

    def _told(self, status: HTTPStatus, text: str) -> Response:
        return self._page("message.html", status, title=status.phrase, text=text)

    def _page(
        self, name: str, status: HTTPStatus = HTTPStatus.OK, *, request: Request | None = None, **values: Any
    ) -> Response:
        mark = self._sessions.mark(_cookie(request)) if request is not None else ""
        text = self._templates.get_template(name).render(mark=mark, **values)
        return Response(text, status=status, content_type="text/html; charset=utf-8")


def _cookie(request: Request) -> str:
    return request.cookies.get(COOKIE, "")


def _host(request: Request) -> str:
    """The name that the client used, without its port."""
    given = request.headers.get("Host", "").lower()
    name, _, port = given.rpartition(":")
    return name if name and port.isdigit() else given


def _is_own_form(request: Request) -> bool:
    """Was this form on a page of ours?  A browser tells (Origin, Fetch Metadata).  What does not tell is no browser; it
    must have the mark or the token all the same."""
    if request.content_length is not None and request.content_length > _LARGEST_FORM:
        raise RequestEntityTooLarge("That is more than a form of this page has.")
    origin = request.headers.get("Origin")
    if origin is not None and _host_in(origin) != request.headers.get("Host", "").lower():
        return False
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _host_in(origin: str) -> str:
    """Host and port of an origin, "" if it has none or makes no sense."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _sent_to(path: str) -> Response:
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})
