"""How a message came, at the prompt: nobody tells it there, so what claims to know goes, and nothing is said."""

from __future__ import annotations

from tests.unit.cli.conftest import CommandLine

INBOUND = 'mode = "inbound"\nlocal_domains = ["example.org"]\n[transport]\nauthserv_id = "mx.example.org"\n'
FORGED = b"X-Smilla-Transport: tls TLSv1.3 X; e2e=none\nAuthentication-Results: mx.example.org; x-tls=pass\n"
MESSAGE = b"From: sam@sender.example\nTo: hugh@example.org\nSubject: hello\n\nhello\n"


def test_explain_says_what_is_removed_and_that_only_the_mta_knows(commands: CommandLine) -> None:
    arguments = ("explain", "--config", commands.config(INBOUND), "--from", "s@x.org", "--to", "zoe@example.org")
    text = commands.run(*arguments, stdin=FORGED + MESSAGE).out.decode()
    assert "transport: unknown, since only the MTA tells how a message came; " in text
    assert "that claim to know: 2 removed\n" in text
    found = commands.run(*arguments, "--json", stdin=FORGED + MESSAGE).json["transport"]
    assert found == {"way": "unknown", "removed": 2, "added": []}
    outbound = commands.run(
        "explain", "--config", commands.config(""), *arguments[3:], "--json", stdin=FORGED + MESSAGE
    )
    assert outbound.json["transport"] == {"way": None, "removed": 0, "added": []}


def test_encrypt_removes_what_claims_to_know_from_either_form(commands: CommandLine) -> None:
    path = commands.config(INBOUND)
    arguments = ("encrypt", "--config", path, "--from", "s@x.org", "--to")
    assert commands.run(*arguments, "zoe@example.org", stdin=FORGED + MESSAGE).out == MESSAGE
    done = commands.run(*arguments, "hugh@example.org", stdin=FORGED + MESSAGE)
    assert b"pkcs7-mime" in done.out
    assert b"x-tls" not in done.out
    assert b"X-Smilla-Transport" not in done.out
