"""The URL of a database: what is taken, and what would leave it open."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.config import database_url
from smilla.config.database_url import Place

TLS = "sslmode=verify-full&sslrootcert=/etc/smilla/db.pem"
PROVEN = {"require_auth": "scram-sha-256"}  # on loopback, where anybody may listen


def place(url: str) -> dict[str, str]:
    return dict(database_url.read(url).parameters)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql:///smilla?host=/run/postgresql",
            {"dbname": "smilla", "host": "/run/postgresql", "port": "5432", "user": ""},
        ),
        (
            "postgres://smilla@localhost:5433/mail",
            {"dbname": "mail", "host": "localhost", "port": "5433", "user": "smilla", **PROVEN},
        ),
        ("postgresql://127.0.0.1/mail", {"dbname": "mail", "host": "127.0.0.1", "port": "5432", "user": "", **PROVEN}),
        ("postgresql://[::1]/mail?user=s", {"dbname": "mail", "host": "::1", "port": "5432", "user": "s", **PROVEN}),
        (
            f"postgresql://s@db.example.org/mail?{TLS}&passfile=/etc/smilla/pgpass",
            {
                "dbname": "mail",
                "host": "db.example.org",
                "port": "5432",
                "user": "s",
                "sslmode": "verify-full",
                "sslrootcert": "/etc/smilla/db.pem",
                "passfile": "/etc/smilla/pgpass",
            },
        ),
    ],
)
def test_url_says_where_the_database_is(url: str, expected: dict[str, str]) -> None:
    assert place(url) == expected


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://localhost/x", "postgresql:///"),
        ("smilla", "postgresql:///"),
        ("postgresql://s:secret@localhost/x", "without a password"),
        ("postgresql://localhost/x?password=secret", "not password"),
        ("postgresql://localhost/x?options=-csearch_path%3Devil", "not options"),
        ("postgresql://localhost/x?hostaddr=192.0.2.1", "not hostaddr"),
        ("postgresql://localhost/x?service=y", "not service"),
        ("postgresql://localhost/x?port=1&port=2", "each once"),
        ("postgresql://localhost/x?nonsense", "such as"),
        ("postgresql://localhost/", "name of the database"),
        ("postgresql://localhost/a/b", "name of the database"),
        ("postgresql:///x", "with a host"),
        ("postgresql://a,b/x", "with a host"),
        ("postgresql://localhost/x?user=a%20b", "user's name"),
        ("postgresql://localhost:99999/x", "such as"),
        ("postgresql://localhost/x?port=0", "port"),
        ("postgresql://localhost/x?port=\u0663", "port"),
        ("postgresql://localhost/x?passfile=pgpass", "absolute path"),
        ("postgresql://db.example.org/x", "over a network"),
        ("postgresql://192.0.2.1/x?sslmode=require", "over a network"),
        ("postgresql://db.example.org/x?sslmode=verify-full", "over a network"),
        ("postgresql://db.example.org/x?sslmode=verify-ca&sslrootcert=/x", "over a network"),
        ("postgresql://localhost/x?host=db.example.org", "over a network"),
        ("postgresql://localhost/x#y", "postgresql:///"),
    ],
)
def test_url_that_leaves_something_open_is_refused(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        database_url.read(url)


def test_name_for_people_has_no_secret() -> None:
    named = database_url.read(f"postgresql://s@db.example.org/mail?{TLS}&passfile=/etc/smilla/pgpass").named
    assert named == "postgresql mail at db.example.org:5432"
    assert database_url.read("postgresql:///mail?host=/run/x").named == "postgresql mail at /run/x"


@given(st.text(max_size=60) | st.text("postgresql:/@?=&.-x1[]%", max_size=60).map("postgresql://".__add__))
def test_any_text_is_a_place_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(database_url.read(text), Place)
