"""Names of hosts against the patterns of certificates and MTA-STS policies."""

from __future__ import annotations


def fits(pattern: str, host: str) -> bool:
    """Is the host, in A-labels, the pattern's?  ``*`` stands for exactly one label, the first, and for nothing less
    (RFC 6125 section 6.4.3, RFC 8461 section 4.1)."""
    return plain(pattern) in fitting(host)


def bears(name: str, wanted: str) -> bool:
    """Does a name of a certificate satisfy a word of Postfix's ``match``: a host, or with a dot before it any name
    below it (postconf(5), smtp_tls_secure_cert_match)?"""
    return plain(name).endswith(plain(wanted)) if wanted.startswith(".") else fits(name, wanted)


def fitting(host: str) -> tuple[str, ...]:
    """The patterns that a host fits, in the form of ``plain``: its own name, and a ``*`` for its first label."""
    host = plain(host)
    if not host or "*" in host:
        return ()
    label, _, rest = host.partition(".")
    return (host, f"*.{rest}") if label and "." in rest else (host,)


def plain(name: str) -> str:
    """The form in which names are compared."""
    return name.lower().removesuffix(".")
