"""What the options share: their metadata, and the values that several of them accept."""

from __future__ import annotations

from dataclasses import field
from typing import Any

DEFAULT_PATH = "/etc/smilla/smilla.toml"
PREFERENCES = ("compatible", "strongest")
FAILURE_ACTIONS = ("plain", "secure-hop", "defer", "refuse", "hold")
NEVER_PLAIN = ("defer", "refuse", "hold")
PROTECTIONS = ("off", "copy", "hide")
SOURCES = ("smimea", "openpgpkey", "directory")
FORMATS_OF = {"smimea": ("smime",), "openpgpkey": ("openpgp",), "directory": ("smime", "openpgp")}
OUTSIDE_DNS = ("directory",)  # of SOURCES: these need no resolver, and what they name is the administrator's word
KEY_FAILURES = ("no_key", "insecure", "bogus", "unreachable", "unusable_key")  # of a look-up
FAILURES = (*KEY_FAILURES, "unclear")
SECURE_HOP = "secure-hop"  # of FAILURE_ACTIONS: the copy goes over a verified hop or not at all
HOP_FAILURES = ("no_key", "insecure", "unusable_key")  # of FAILURES: those that may have it
SPLITS = ("stage", "reinject")  # the values of [policy] mixed that give each recipient their own bytes
STYLE = ("cipher", "rsa_padding", "ecdh_kdf")
CIPHERS = ("aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm")
RSA_PADDINGS = ("pkcs1", "oaep-sha256")
ECDH_KDFS = ("sha1", "sha256")
PORT = r"0*([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"  # from 1 to 65535
CONDITIONS = ("recipient", "sender", "domain", "client", "user", "direction")


def option(default: Any, help_text: str, **bounds: Any) -> Any:
    """A dataclass field with its help and its bounds (choices, minimum and maximum, pattern, check …)."""
    return field(default=default, metadata={"help": help_text, **bounds})
