"""How a ciphertext is written, as the configuration, the rule for a recipient and the recipient's certificate say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """Recipients whose styles differ share no ciphertext.  Each field has the name and meaning of its option
    (protect_headers that of [headers] protect)."""

    cipher: str = "aes256-cbc"
    rsa_padding: str = "pkcs1"
    ecdh_kdf: str = "sha1"
    protect_headers: str = "off"
    seipd2: str = "v6"
    hidden_recipients: bool = False


@dataclass(frozen=True, slots=True)
class OAEP:
    """RSAES-OAEP with its parameters (RFC 4055 section 4.1): the hashes as sha1 … sha512, and ``raw_algorithm``, the
    AlgorithmIdentifier that says so."""

    digest: str
    mask_digest: str
    raw_algorithm: bytes
    label: bytes = b""


def is_authenticated(cipher: str) -> bool:
    """Whether it makes AuthEnvelopedData (RFC 5083), which older clients do not read."""
    return cipher.endswith("-gcm")


def cipher_for(configured: str, announced: Iterable[str]) -> str:
    """The content cipher for a certificate that announces these of ours, in its order of preference.

    RFC 8551 section 2.7.1 says that a sending agent should take the first that it has itself.  Others: Outlook and NSS
    take the strongest that all recipients announce; OpenSSL and gpgsm look at no list.  What we do: the configured
    cipher wherever it is announced, or nothing of ours is; else the first announced one, save that no list turns CBC
    into GCM.  Such a list is what a CA writes into all its certificates rather than what the reading program can do;
    AES-CBC is mandatory for every receiving agent (section 2.7), whereas GCM opens in no common client yet.  GCM that
    is configured becomes CBC for who announces CBC alone.
    """
    wanted = tuple(announced)
    if configured in wanted:
        return configured
    same_mode = [cipher for cipher in wanted if is_authenticated(cipher) == is_authenticated(configured)]
    others = [cipher for cipher in wanted if not is_authenticated(cipher)]
    return next(iter((*same_mode, *others)), configured)
