"""The options that tell a reader how a message came."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import option


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """[transport]: what the header of inbound mail says of how it came. See smilla-transport(7)."""

    authserv_id: str = option(
        "",
        "The name of this mail server in Authentication-Results fields (RFC 8601): the one that your verifiers (DKIM, "
        "DMARC) write too. With it, inbound mail gets an Authentication-Results field with x-tls=pass or x-tls=none "
        "and an X-Smilla-Transport field, and loses such fields that came from outside. Empty: nothing is added or "
        "removed.",
        pattern=r"|[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?",
        expected="a host name such as mx.example.org",
    )
    circles: bool = option(
        False,
        "Say circle instead of tls if the client's certificate was issued by an authority in the ca_file of a "
        "[[circle]]. The MTA tells the name of the issuer only, so this is safe only if the MTA trusts no other "
        "authority for clients (Postfix: smtpd_tls_CAfile, smtpd_tls_CApath).",
    )
