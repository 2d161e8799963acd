"""TSIG keys as named and its tools write them."""

from __future__ import annotations

import base64

import pytest

from smilla.errors import ParseError
from smilla.formats.tsig_key import parse

SECRET = base64.b64encode(bytes(range(32))).decode()
USUAL = f'key "smilla" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'


@pytest.mark.parametrize(
    "text",
    [
        USUAL,
        USUAL.replace('"smilla"', "smilla"),
        USUAL.replace("\n", " "),
        USUAL.replace("hmac-sha256", "HMAC-SHA256"),
        "// made by hand; }\n# so\n/* is\n this */" + USUAL + "// end",
        f'key "smilla" {{ secret "{SECRET}"; algorithm "hmac-sha256"; }};',
    ],
)
def test_every_spelling_of_one_key_is_read(text: str) -> None:
    key = parse(text)
    assert (key.name, key.algorithm, key.secret) == ("smilla", "hmac-sha256", bytes(range(32)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        USUAL + USUAL,
        USUAL.replace("};", "}"),
        USUAL.replace("hmac-sha256", "hmac-md5"),
        USUAL.replace("hmac-sha256", "hmac-sha1"),
        USUAL.replace("algorithm", "algorithms"),
        USUAL.replace(SECRET, "not base64!"),
        USUAL.replace(SECRET, "AAAA"),
        USUAL.replace("\talgorithm hmac-sha256;\n", ""),
        USUAL.replace(f'\tsecret "{SECRET}";\n', ""),
        "zone example.org { };",
    ],
)
def test_anything_else_is_refused_and_the_secret_never_repeated(text: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse(text)
    assert SECRET not in str(refused.value)


def test_secret_is_not_shown() -> None:
    assert "secret" not in repr(parse(USUAL))
