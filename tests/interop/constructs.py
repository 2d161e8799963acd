"""Everything that smilla can emit: one line a construct."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Construct:
    """A message to the owners ``to`` (see owners.py), written under the options in ``config`` (TOML).

    A reader opens it where it opens it with the key of each of them, or of each of ``by``.  ``default``: smilla
    writes it without being told to.  ``protect``: what [headers] protect is set to.
    """

    name: str
    to: tuple[str, ...]
    config: str = field(default="", repr=False)
    default: bool = False
    format: str = "smime"
    by: tuple[str, ...] = ()
    protect: str = "off"


def _smime(name: str, *to: str, default: bool = False, **options: str | bool) -> Construct:
    return Construct(name, to, _section("smime", options), default)


def _openpgp(engine: str, name: str, *to: str, default: bool = False, **options: str | bool) -> Construct:
    return Construct(f"{engine}: {name}", to, _section("openpgp", {"engine": engine, **options}), default, "openpgp")


def _section(name: str, options: dict[str, str | bool]) -> str:
    return "\n".join([f"[{name}]", *(f"{option} = {json.dumps(value)}" for option, value in options.items()), ""])


def _protected(construct: Construct, protect: str) -> Construct:
    name = f"{construct.name}, headers {protect}"
    config = construct.config + _section("headers", {"protect": protect})
    return replace(construct, name=name, config=config, protect=protect, default=False)


SMIME = (
    _smime("RSA-2048, AES-256-CBC", "rsa2048", default=True),
    _smime("RSA-3072, AES-256-CBC", "rsa3072", default=True),
    _smime("RSA-4096, AES-256-CBC", "rsa4096", default=True),
    _smime("RSA, two recipients", "rsa2048", "rsa4096", default=True),
    _smime("RSA, AES-128-CBC", "rsa2048", cipher="aes128-cbc"),
    _smime("RSA, AES-256-GCM", "rsa2048", cipher="aes256-gcm"),
    _smime("RSA, AES-128-GCM", "rsa2048", cipher="aes128-gcm"),
    _smime("RSA-OAEP, AES-256-CBC", "rsa2048", rsa_padding="oaep-sha256"),
    _smime("RSA-OAEP, AES-256-GCM", "rsa2048", rsa_padding="oaep-sha256", cipher="aes256-gcm"),
    _smime("EC P-256, AES-256-CBC", "p256", default=True),
    _smime("EC P-384, AES-256-CBC", "p384", default=True),
    _smime("EC P-521, AES-256-CBC", "p521", default=True),
    _smime("EC P-256, AES-128-CBC", "p256", cipher="aes128-cbc"),
    _smime("RSA-OAEP, certificate for it only", "rsa2048-oaep", default=True),
    _smime("EC P-256, AES-256-GCM", "p256", cipher="aes256-gcm"),
    _smime("EC P-256, SHA-256 KDF", "p256", ecdh_kdf="sha256"),
    _smime("EC P-384, SHA-256 KDF", "p384", ecdh_kdf="sha256"),
    _smime("EC brainpoolP256r1, SHA-256 KDF", "bp256", ecdh_kdf="sha256"),
    _smime("EC P-256 and P-384", "p256", "p384", default=True),
    _smime("EC brainpoolP256r1", "bp256", default=True),
    _smime("EC brainpoolP384r1", "bp384", default=True),
    _smime("EC brainpoolP512r1", "bp512", default=True),
    replace(_smime("RSA and EC together, by the RSA key", "rsa2048", "p256", separate=False), by=("rsa2048",)),
    replace(_smime("EC and RSA together, by the EC key", "rsa2048", "p256", separate=False), by=("p256",)),
    _smime("X25519", "x25519", default=True),
    _smime("X448", "x448", default=True),
    _smime("ML-KEM-768", "mlkem768", default=True),
    _smime("ML-KEM-1024", "mlkem1024", default=True),
    *(_protected(_smime("RSA", "rsa2048"), protect) for protect in ("copy", "hide")),
)

_KINDS = ("rsa3072", "cv25519", "nistp256", "nistp384", "nistp521")
_BRAINPOOL = ("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1")
_SEVERAL = ("rsa3072", "cv25519", "nistp384")

OPENPGP = (
    *(_openpgp("sequoia", kind, kind, default=True) for kind in _KINDS),
    _openpgp("sequoia", "three recipients", *_SEVERAL, default=True),
    *(_openpgp("gnupg", kind, kind, default=True) for kind in (*_KINDS, *_BRAINPOOL)),
    _openpgp("gnupg", "three recipients", *_SEVERAL, default=True),
    *(_protected(_openpgp("sequoia", "cv25519", "cv25519"), protect) for protect in ("copy", "hide")),
    _openpgp("gnupg", "hidden recipient", "cv25519", hidden_recipients=True),
    _openpgp("gnupg", "three hidden recipients", *_SEVERAL, hidden_recipients=True),
    _openpgp("gnupg", "v4 that announces SEIPDv2", "v4-cv25519", default=True),
    _openpgp("sequoia", "v4 that announces SEIPDv2, kept for v6", "v4-cv25519", default=True),
    _openpgp("sequoia", "SEIPDv2, v4-cv25519", "v4-cv25519", seipd2="announced"),
    _openpgp("sequoia", "SEIPDv2, v4-rsa", "v4-rsa", seipd2="announced"),
    _openpgp("sequoia", "SEIPDv2, v4 and v6 together", "v4-cv25519", "v6-cv25519", seipd2="announced"),
    replace(
        _openpgp("sequoia", "v4 and v6 together, by the v4 key", "cv25519", "v6-cv25519", default=True), by=("cv25519",)
    ),
    *(_openpgp("sequoia", kind, kind, default=True) for kind in ("v6-cv25519", "v6-cv448", "v6-p256", "v6-rsa")),
)
CONSTRUCTS = (*SMIME, *OPENPGP)
