"""Which content cipher: the configured one, unless the certificate announces others of ours and not this one."""

from __future__ import annotations

import pytest

from smilla.policy.decision import cipher_for

CBC, CBC128, GCM, GCM128 = "aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm"


@pytest.mark.parametrize(
    ("configured", "announced", "chosen"),
    [
        (CBC, [], CBC),
        (CBC, [CBC128, CBC], CBC),
        (CBC, [CBC128], CBC128),
        (CBC128, [CBC], CBC),
        (CBC, [GCM, CBC128], CBC128),
        (CBC, [GCM, GCM128], CBC),  # no list turns CBC into GCM
        (GCM, [CBC128, CBC], CBC128),
        (GCM, [CBC, GCM128], GCM128),
        (GCM128, [GCM], GCM),
        (GCM, [], GCM),
    ],
)
def test_cipher_is_the_configured_one_or_one_that_is_announced(
    configured: str, announced: list[str], chosen: str
) -> None:
    assert cipher_for(configured, announced) == chosen
