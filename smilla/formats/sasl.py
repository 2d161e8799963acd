"""Who shows who they are by AUTH (RFC 4954): the name in a client's answers, without the rest.  No socket.

The answers themselves go to the next hop as they are.  What they hold beside the name is neither kept nor logged.
"""

from __future__ import annotations

import base64
import binascii
import re

from smilla.errors import ParseError

# Those whose answers name the user, and that need no channel but the one that is there.
MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")


def user(mechanism: str, line: str) -> str:
    """The name in the first answer that has one, in base64: of PLAIN (RFC 4616), LOGIN, XOAUTH2 or OAUTHBEARER (RFC
    7628).  Raises ParseError if there is none."""
    try:
        text = base64.b64decode(line, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeError, ValueError):
        raise ParseError("this is no answer of that mechanism") from None  # and none of it is shown
    if mechanism == "PLAIN":
        parts = text.split("\0")
        found = parts[1] if len(parts) == 3 else ""
    elif mechanism == "LOGIN":
        found = text
    else:
        pattern = r"user=([^\x01]+)\x01" if mechanism == "XOAUTH2" else r"[a-z]+,a=([^,\x01]+),"
        matched = re.match(pattern, text)
        found = matched[1] if matched else ""
    if not found or not found.isprintable():
        raise ParseError("this is no answer of that mechanism")
    return found
