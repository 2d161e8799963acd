"""How a ciphertext is written, as the configuration and the rule for a recipient say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """Recipients whose styles differ share no ciphertext.  Each field has the name and meaning of its option."""

    cipher: str = "aes256-cbc"
    rsa_padding: str = "pkcs1"
    seipd2: str = "announced"
    hidden_recipients: bool = False
