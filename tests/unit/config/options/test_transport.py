"""[transport]: which names of a server are taken."""

from __future__ import annotations

import pytest

from smilla.config import parse
from smilla.errors import ConfigError


@pytest.mark.parametrize("name", ["", "mx.example.org", "MX-1.example.org", "localhost", "a", "x" * 254])
def test_a_host_name_is_taken(name: str) -> None:
    assert parse(f'[transport]\nauthserv_id = "{name}"\n').transport.authserv_id == name


@pytest.mark.parametrize("name", ["mx example", "mx;x-tls=pass", "mx.example.org.", "müller.test", "mx/1", "x" * 255])
def test_what_would_need_quoting_is_a_fault(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\[transport\] authserv_id is .*, but must be a host name such as"):
        parse(f'[transport]\nauthserv_id = "{name}"\n')


def test_a_line_end_in_the_name_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="authserv_id"):
        parse('[transport]\nauthserv_id = "mx.test\\r\\nBcc: eve"\n')


def test_it_is_off_by_default() -> None:
    options = parse("").transport
    assert (options.authserv_id, options.circles) == ("", False)
