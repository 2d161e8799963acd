"""The arguments of SMTP's commands: what is taken, and what is refused rather than guessed."""

from __future__ import annotations

import pytest

from smilla.formats import esmtp
from smilla.formats.esmtp import CommandRefused
from smilla.model import Offer

ALL = Offer(frozenset(("SIZE", "8BITMIME", "SMTPUTF8", "DSN")), 1000)


@pytest.mark.parametrize(
    ("rest", "sender", "parameters"),
    [
        ("FROM:<>", "", ()),
        ("from: <a@s.test>", "a@s.test", ()),
        ('FROM:<"a > b"@s.test> SIZE=1000', '"a > b"@s.test', ("SIZE=1000",)),
        ("FROM:<a@s.test> BODY=8bitmime RET=hdrs ENVID=q+2B", "a@s.test", ("BODY=8bitmime", "RET=hdrs", "ENVID=q+2B")),
        ("FROM:<ä@s.test> SMTPUTF8", "ä@s.test", ("SMTPUTF8",)),
    ],
)
def test_mail_gives_the_sender_and_the_parameters_as_they_are(
    rest: str, sender: str, parameters: tuple[str, ...]
) -> None:
    assert esmtp.mail(rest, ALL) == (sender, parameters)


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("<a@s.test>", "501"),
        ("FROM:a@s.test", "501"),
        ("FROM:<a@s.test", "501"),
        ("FROM:<a@s.test>x", "501"),
        ("FROM:<" + "a" * 1001 + ">", "501"),
        ("FROM:<a@s.test> SIZE=1001", "552"),
        ("FROM:<a@s.test> SIZE=-1", "501"),
        ("FROM:<a@s.test> SIZE", "501"),
        ("FROM:<a@s.test> BODY=BINARYMIME", "501"),
        ("FROM:<a@s.test> SMTPUTF8=1", "501"),
        ("FROM:<a@s.test> NOTIFY=NEVER", "555"),
        ("FROM:<a@s.test> REQUIRETLS", "555"),
        ("FROM:<a@s.test> RET=FULL ret=hdrs", "555"),
        ("FROM:<a@s.test> AUTH=<>", "555"),
        ("FROM:<a@s.test> =x", "555"),
        ("FROM:<ä@s.test>", "550"),
    ],
)
def test_what_cannot_be_kept_is_refused(rest: str, code: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        esmtp.mail(rest, ALL)
    assert caught.value.reply[0] == code


@pytest.mark.parametrize("parameter", ["SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=x"])
def test_parameter_that_the_next_hop_does_not_offer_is_refused(parameter: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        esmtp.mail(f"FROM:<a@s.test> {parameter}", Offer())
    assert caught.value.reply[0] == "555"


def test_rcpt_has_an_address_and_needs_smtputf8_for_some() -> None:
    rest = "TO:<a@r.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2B@r.test"
    assert esmtp.rcpt(rest, ALL, utf8=False) == ("a@r.test", ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;x+2B@r.test"))
    assert esmtp.rcpt("TO:<ä@r.test>", ALL, utf8=True) == ("ä@r.test", ())
    for bad in ("TO:<>", "TO:< >", "TO:<ä@r.test>", "FROM:<a@r.test>"):
        with pytest.raises(CommandRefused):
            esmtp.rcpt(bad, ALL, utf8=False)


def test_xforward_says_what_is_not_known_and_refuses_what_it_does_not_know() -> None:
    assert esmtp.xforward("NAME=[UNAVAILABLE] addr=192.0.2.1 HELO=a+20b IDENT=4F") == {
        "NAME": "", "ADDR": "192.0.2.1", "HELO": "a b", "IDENT": "4F",
    }  # fmt: skip
    assert esmtp.xforward("NAME=a+0D+0AX") == {"NAME": ""}
    for bad in ("FOO=x", "NAME", "NAME=" + "x" * 256):
        with pytest.raises(CommandRefused):
            esmtp.xforward(bad)
