"""The status page against whoever asks: with a token, without one, and with evil in mind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from smilla.config.options import WebOptions
from smilla.errors import AddressError, SmillaError
from smilla.web.application import Application, Sources
from tests.unit.web.snapshots import snapshot

TOKEN = "a long token"
EVIL = '"><script>alert(1)</script>'


def _look_up(address: str) -> Iterable[str]:
    if "@" not in address:
        raise AddressError(f"{address} is no address")
    yield f"{address}: no key"
    yield f"  smimea: {EVIL}"


def _client(**options: Any) -> Client:
    sources = options.pop("sources", Sources(snapshot, _look_up))
    return Client(Application(sources, TOKEN, WebOptions(**options)), use_cookies=True)


def _entered(**options: Any) -> Client:
    client = _client(**options)
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    return client


def _mark(response: TestResponse) -> str:
    found = re.search(r'name="mark" value="(\w+)"', response.text)
    assert found
    return found[1]


def _ask(client: Client, address: str, **headers: str) -> TestResponse:
    mark = _mark(client.get("/lookup"))
    return client.post("/lookup", data={"mark": mark, "address": address}, headers=headers)


# --- without the token


@pytest.mark.parametrize("path", ["/", "/lookup", "/?token=" + TOKEN.replace(" ", "%20")])
def test_without_a_session_there_is_only_the_form_for_the_token(path: str) -> None:
    response = _client().get(path)
    assert (response.status_code, response.headers["Location"], response.data) == (303, "/login", b"")


def test_wrong_token_opens_nothing() -> None:
    client = _client()
    response = client.post("/login", data={"token": TOKEN[:-1]})
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers
    assert client.get("/").status_code == 303


def test_many_wrong_tokens_are_told_to_wait_and_keep_out_nobody_who_has_the_right_one() -> None:
    client = _client()
    answers = [client.post("/login", data={"token": str(number)}) for number in range(12)]
    assert [each.status_code for each in answers] == [403] * 10 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "60"
    entered = client.post("/login", data={"token": TOKEN})
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    assert client.get("/").status_code == 200


def test_right_token_does_not_give_wrong_ones_new_tries() -> None:
    client = _client()
    for number in range(10):
        client.post("/login", data={"token": str(number)})
        client.post("/login", data={"token": TOKEN})
    assert client.post("/login", data={"token": TOKEN + "x"}).status_code == 429


def test_answer_to_a_wrong_token_says_nothing_of_how_wrong_it_is() -> None:
    for after in (0, 10):
        answers = set[tuple[int, bytes, str]]()
        for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "x" * 4000, "\0", "ä"):
            client = _client()
            for number in range(after):
                client.post("/login", data={"token": str(number)})
            response = client.post("/login", data={"token": wrong})
            answers.add((response.status_code, response.data, str(sorted(response.headers.items()))))
        assert len(answers) == 1


def test_a_flood_of_wrong_tokens_is_not_kept() -> None:
    sources = Sources(snapshot, _look_up)
    application = Application(sources, TOKEN, WebOptions())
    client = Client(application, use_cookies=True)
    for number in range(200):
        client.post("/login", data={"token": str(number)})
    assert len(application._wrong_tokens._times) == 10


def test_forged_cookie_opens_nothing() -> None:
    client = _client()
    client.set_cookie("smilla", "0" * 32 + ".9999999999." + "0" * 64)
    assert client.get("/").status_code == 303


def test_look_up_without_a_session_asks_nobody() -> None:
    def fail(_: str) -> Iterable[str]:
        raise AssertionError

    response = _client(sources=Sources(snapshot, fail)).post("/lookup", data={"address": "a@b.example"})
    assert response.status_code == 303


# --- with it


def test_cookie_is_kept_from_scripts_and_from_other_sites() -> None:
    response = _client().post("/login", data={"token": TOKEN})
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie


def test_behind_a_proxy_the_cookie_goes_by_tls_only() -> None:
    client = _client(hosts=("mail.example.org",))
    response = client.post("/login", data={"token": TOKEN}, base_url="http://mail.example.org/")
    assert "Secure" in response.headers["Set-Cookie"]


def test_status_shows_the_figures() -> None:
    text = _entered().get("/").text
    assert "75 %" in text
    assert "smilla 1.0.0" in text
    assert "example.net" not in text


def test_just_after_the_start_there_is_no_empty_plot_and_no_empty_table() -> None:
    empty = snapshot(minutes=(), tens=(), domains=(), expiring=(), started_at=snapshot().taken_at - 2)
    text = _entered(sources=Sources(lambda: empty, _look_up), domains=True).get("/").text
    assert "<svg" not in text
    assert "<table" not in text
    assert text.count("No mail in this time.") == 3
    assert "All counts began at 0 then." in text


def test_domains_are_escaped() -> None:
    text = _entered(domains=True).get("/").text
    assert "&lt;b&gt;.example" in text
    assert "<b>" not in text


def test_where_smilla_does_not_answer_the_page_says_so() -> None:
    def fail() -> Any:
        raise SmillaError("nobody listens there")

    response = _entered(sources=Sources(fail, _look_up)).get("/")
    assert response.status_code == 503
    assert "nobody listens there" in response.text


def test_story_of_a_look_up_is_shown_and_escaped() -> None:
    response = _ask(_entered(), "bob@example.net")
    assert "bob@example.net: no key" in response.text
    assert "<script" not in response.text
    assert "&lt;script&gt;" in response.text


def test_evil_address_is_escaped() -> None:
    response = _ask(_entered(), EVIL)
    assert response.status_code == 400
    assert "<script" not in response.text


def test_leaving_ends_the_session_even_for_a_kept_cookie() -> None:
    client = _entered()
    [cookie] = [each.value for each in [client.get_cookie("smilla")] if each]
    client.post("/logout", data={"mark": _mark(client.get("/lookup"))})
    client.set_cookie("smilla", cookie)
    assert client.get("/").status_code == 303


# --- requests from elsewhere


def test_form_without_its_mark_is_refused() -> None:
    client = _entered()
    for mark in ("", "0" * 64):
        response = client.post("/lookup", data={"mark": mark, "address": "bob@example.net"})
        assert response.status_code == 403
        assert "no key" not in response.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_form_from_another_page_is_refused(headers: dict[str, str]) -> None:
    response = _ask(_entered(), "bob@example.net", **headers)
    assert response.status_code == 403
    assert "no key" not in response.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9470", "127.0.0.1.evil.example", "", "[::2]:9470"])
def test_another_host_name_is_refused(host: str) -> None:
    response = _entered().get("/", headers={"Host": host})
    assert response.status_code == 421
    assert "75 %" not in response.text


@pytest.mark.parametrize("host", ["localhost:9470", "127.0.0.1:9470", "[::1]:9470", "LOCALHOST", "mail.example.org"])
def test_own_names_are_taken(host: str) -> None:
    assert _client(hosts=("Mail.example.org",)).get("/login", headers={"Host": host}).status_code == 200


# --- odd requests


@pytest.mark.parametrize("path", ["/../etc/passwd", "/style.css/..", "/templates/status.html", "/lookup/", "/%00"])
def test_there_are_no_other_pages(path: str) -> None:
    assert _entered().get(path).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST"])
def test_other_methods_are_refused(method: str) -> None:
    response = _entered().open("/", method=method)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET"


def test_head_is_like_get_without_its_body() -> None:
    response = _entered().head("/")
    assert (response.status_code, response.data) == (200, b"")


def test_large_form_is_refused() -> None:
    response = _client().post("/login", data={"token": "x" * 5000})
    assert response.status_code == 413


def test_look_ups_have_a_rate() -> None:
    client = _entered(lookups_per_minute=2)
    assert [_ask(client, "bob@example.net").status_code for _ in range(3)] == [200, 200, 429]


def test_every_answer_forbids_scripts_frames_and_other_hosts() -> None:
    client = _entered()
    answers = [client.get(path) for path in ("/", "/lookup", "/style.css", "/nothing")] + [_client().get("/login")]
    answers.append(client.get("/", headers={"Host": "evil.example"}))
    for response in answers:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"


def test_no_page_has_a_script_a_style_of_its_own_or_an_address_elsewhere() -> None:
    client = _entered(domains=True)
    for path in ("/", "/lookup"):
        text = client.get(path).text
        assert not re.search(r"<script|<style| style=| on\w+=|//\w", text), path
