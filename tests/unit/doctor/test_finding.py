"""Findings: what is printed, in which order, and what a program reads."""

from __future__ import annotations

from smilla.doctor.finding import Finding, Kind, error, fine, hint, in_order, warning


def test_errors_come_first_and_each_kind_where_it_is_to_be_mended() -> None:
    listener, rights = error(Kind.LISTENER, "b", "x"), error(Kind.RIGHTS, "a", "x")
    resolver, later = error(Kind.RESOLVER_DOWN, "r", "x"), error(Kind.RIGHTS, "z", "x")
    rest = [warning(Kind.IDLE, "", "w"), hint(Kind.IDLE, "", "h"), fine(Kind.CONFIGURATION, "c", "no fault")]
    found = in_order([*reversed(rest), listener, rights, resolver, later, rights])
    assert found == [rights, later, resolver, listener, *rest]


def test_reason_why_follows_in_a_hint_with_the_line_that_mends() -> None:
    assert error(Kind.SOCKET, "socket x", "is away", "start it").lines == (("error", "socket x: is away; start it"),)
    found = warning(Kind.SOCKET, "socket x", "is away", "start it", "mail waits")
    assert found.lines == (("warning", "socket x: is away"), ("hint", "mail waits; start it"))
    assert fine(Kind.SOCKET, "", "all is well").lines == (("", "all is well"),)


def test_document_has_every_field_and_says_ok() -> None:
    assert fine(Kind.SOCKET_TAKEN, "s", "t").document == {
        "kind": "socket-taken",
        "severity": "ok",
        "subject": "s",
        "text": "t",
        "mend": "",
        "why": "",
    }
    assert Finding(Kind.CLOCK, "error", "s", "t", "m", "w").document["severity"] == "error"


def test_kinds_are_stable_words() -> None:
    assert len(set(Kind)) == len(Kind.__members__)
    assert all(kind.value == kind.name.lower().replace("_", "-") for kind in Kind if kind is not Kind.NON_SMTPD)
