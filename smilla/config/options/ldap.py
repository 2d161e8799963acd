"""The options of the source ldap."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import CA_FILE, PORT, option


@dataclass(frozen=True, slots=True)
class LDAPOptions:
    """[ldap]: the directory that the source ldap asks; see KEYS IN A COMPANY'S DIRECTORY in smilla.toml(5)."""

    url: str = option(
        "",
        "ldaps://HOST[:PORT] (TLS from the start, port 636) or ldap://HOST[:PORT] (StartTLS, port 389). The "
        "certificate must be valid for HOST; without TLS, nothing is asked. Needs a further package: pip install "
        "smilla[ldap]; the Debian package has it.",
        pattern=rf"|ldaps?://[A-Za-z0-9._-]+(:{PORT})?/?|ldaps?://\[[0-9A-Fa-f:.]+\](:{PORT})?/?",
        expected="ldaps://HOST, ldaps://HOST:PORT, or the same with ldap",
    )
    ca_file: str = option(CA_FILE, "The authorities, in PEM, that it is verified with.", absolute=True)
    base: str = option("", "Where the search begins (a DN), with all that is below: ou=people,dc=example,dc=org.")
    filter: str = option(
        "(mail={address})",
        "The filter of the search (RFC 4515), with {address}, or with {local_part} and {domain}. What stands in for "
        "these is escaped.",
    )
    bind_dn: str = option("", "Who asks (a DN). Empty: nobody in particular (anonymous).")
    password_file: str = option("", "The file whose first line is the password of bind_dn.", absolute=True)
    domains: tuple[str, ...] = option(
        (),
        "Names or shell patterns: the directory is asked for recipients in these only, and has no key for all others. "
        "Empty: for all.",
        check="domain",
    )
