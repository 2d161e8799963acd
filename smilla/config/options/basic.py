"""What the options share: their metadata, and the values that several of them accept."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from smilla.model import RESTS_ON

CA_FILE = "/etc/ssl/certs/ca-certificates.crt"  # the authorities of the web, as Debian keeps them
DEFAULT_PATH = "/etc/smilla/smilla.toml"
PREFERENCES = ("compatible", "strongest")
FAILURE_ACTIONS = ("plain", "secure-hop", "defer", "refuse", "hold")
NEVER_PLAIN = ("defer", "refuse", "hold")
PROTECTIONS = ("off", "copy", "hide")
SOURCES = ("smimea", "openpgpkey", "directory", "wkd", "ldap", "learned")
RULE = "rule"  # the source of a key that a rule names; it is in no list of sources
FORMATS_OF = {
    "smimea": ("smime",),
    "openpgpkey": ("openpgp",),
    "directory": ("smime", "openpgp"),
    "wkd": ("openpgp",),
    "ldap": ("smime", "openpgp"),
    "learned": ("smime", "openpgp"),
    RULE: ("smime", "openpgp"),
}
TRUST = tuple(dict.fromkeys(RESTS_ON[source] for source in SOURCES))  # the words of [keys] trust
OUTSIDE_DNS = ("directory", RULE)  # what these name is the administrator's word
WITHOUT_RESOLVER = (*OUTSIDE_DNS, "ldap")
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
