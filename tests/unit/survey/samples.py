"""Results of a survey, to be changed where a test needs it."""

from __future__ import annotations

from dataclasses import replace

from smilla.hops.mx import State
from smilla.survey.found import Found, Host, Names, Result, Server, Way

OK = Result(State.OK)
NONE = Result(State.ABSENT, "none")
SERVER = Server(
    address="192.0.2.1",
    starttls=OK,
    version="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    requiretls=True,
    certificate=Result(State.OK, "89 days left"),
    names=("mx.example.org",),
    issuer="CN=Root",
    ends_at="2027-02-17T12:00:00+00:00",
    days_left=89,
    chain=Result(State.OK, "valid for the host"),
    tlsa=Result(State.OK, "TLSA 3 1 1 0707 matches"),
)
CLEAR = Server("192.0.2.2", Result(State.MISSING, "no STARTTLS"))
SILENT = Server("192.0.2.3", Result(State.UNREACHABLE, "timed out"), is_connected=False)
UNTRUSTED = replace(SERVER, chain=Result(State.UNTRUSTED, "self-signed"), tlsa=NONE)
MISMATCH = replace(SERVER, tlsa=Result(State.MISMATCH, "TLSA 3 1 1 0808 does not match"))
HOST = Host(
    "mx.example.org",
    Result(State.OK, "192.0.2.1"),
    "secure",
    ("3 1 1 0707",),
    "secure",
    Result(State.ABSENT, "no other"),
    None,
    (SERVER,),
)
FOUND = Found(
    asked="example.org",
    domain="example.org",
    at="2026-11-20T12:00:00+00:00",
    way=Way.DANE,
    why="TLSA 3 1 1 0707 matches at mx.example.org",
    zone="secure",
    mx=Result(State.OK, "10 mx.example.org. (secure)"),
    mx_dnssec="secure",
    mta_sts=Result(State.ABSENT, "no record"),
    mta_sts_mode="",
    tlsrpt=NONE,
    spf=Result(State.OK, "v=spf1 mx -all"),
    spf_all="-all",
    dmarc=Result(State.OK, "v=DMARC1; p=reject"),
    dmarc_policy="reject",
    smimea=Names.NONE,
    openpgpkey=Names.NONE,
    key=None,
    hosts=(HOST,),
)


def at(*servers: Server, **changes: object) -> Found:
    """The same, with one MX host that has these servers."""
    return replace(FOUND, hosts=(replace(HOST, servers=servers),), **changes)  # type: ignore[arg-type]
