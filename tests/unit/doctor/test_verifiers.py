"""What the verifiers before smilla remove, by their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.doctor.verifiers import Removes, judged

ID = "mx.example.org"
SOCKET = "Socket local:/run/opendkim/opendkim.sock\n"


def of(root: Path, place: str = "unix:/run/opendkim/opendkim.sock") -> Removes:
    return judged(place, lambda socket: socket == place.replace("unix:", "local:"), ID, root).removes


def write(root: Path, name: str, text: str) -> Path:
    path = root / "etc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AuthservID mx.example.org\n", Removes.DKIM),
        ("authservid\tMX.example.org # ours\n", Removes.DKIM),
        ("AuthservID mx.example.org\nRemoveARAll yes\n", Removes.DKIM),
        ("AuthservID mx.example.org\nRemoveARAll yes\nRemoveARFrom csl:mx.example.org\n", Removes.ALL),
        ("RemoveARAll True\nRemoveARFrom other.test, .example.org\n", Removes.ALL),
        ("RemoveARAll no\nRemoveARFrom mx.example.org\n", Removes.DKIM),
        ("RemoveARAll yes\nRemoveARFrom refile:/etc/opendkim/hosts\nAuthservID mx.example.org\n", Removes.UNKNOWN),
        ("AuthservID mx.example.org\nKeepAuthResults yes\n", Removes.NONE),
        ("AuthservID mx.example.org\nMode s\n", Removes.NONE),
        ("AuthservID mx2.example.org\n", Removes.NONE),
        ("#AuthservID mx.example.org\n", Removes.UNKNOWN),
        ("AuthservID HOSTNAME\n", Removes.UNKNOWN),
    ],
)
def test_opendkim_removes_what_its_options_say(tmp_path: Path, text: str, expected: Removes) -> None:
    write(tmp_path, "opendkim.conf", SOCKET + text)
    assert of(tmp_path) is expected


def test_opendmarc_removes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "opendkim.conf", "Socket inet:8891@localhost\n")
    write(tmp_path, "opendmarc.conf", SOCKET + "AuthservID mx.example.org\n")
    assert of(tmp_path) is Removes.NONE


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Removes.UNKNOWN),
        ({"modules.d": "milter_headers { use = []; }"}, Removes.NONE),
        ({"modules.d": "use = [];", "local.d": 'use = ["x-spamd-bar",\n "authentication-results"];'}, Removes.ALL),
        ({"local.d": 'use = "authentication-results";'}, Removes.ALL),
        ({"local.d": '# use = ["authentication-results"];'}, Removes.NONE),
        (
            {"local.d": 'use = ["authentication-results"];\nroutines { authentication-results { remove = 1; } }'},
            Removes.UNKNOWN,
        ),
        ({"local.d": 'use = ["authentication-results"];\nauthentication-results { remove = 0; }'}, Removes.ALL),
    ],
)
def test_rspamd_removes_all_where_it_writes_results(tmp_path: Path, files: dict[str, str], expected: Removes) -> None:
    for folder, text in files.items():
        write(tmp_path, f"rspamd/{folder}/milter_headers.conf", text)
    assert of(tmp_path, "inet:localhost:11332") is expected


@pytest.mark.parametrize("text", [None, "Socket local:/run/another.sock\nAuthservID mx.example.org\n"])
def test_what_no_known_file_describes_is_unknown(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path, "opendkim.conf", text)
    assert of(tmp_path) is Removes.UNKNOWN


@pytest.mark.parametrize(
    ("line", "socket"),
    [
        ("inet:8891", "inet:8891@localhost"),
        ("/run/x.sock", "local:/run/x.sock"),
        ("inet:8891@127.0.0.1", "inet:8891@127.0.0.1"),
    ],
)
def test_a_socket_is_read_in_each_of_its_spellings(tmp_path: Path, line: str, socket: str) -> None:
    write(tmp_path, "opendkim.conf", f"Socket {line}\nAuthservID mx.example.org\n")
    assert judged("x", lambda named: named == socket, ID, tmp_path).removes is Removes.DKIM
