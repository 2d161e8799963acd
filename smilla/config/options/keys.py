"""The options of keys, and of how messages are written for them."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import (
    CA_FILE,
    CIPHERS,
    ECDH_KDFS,
    PREFERENCES,
    PROTECTIONS,
    RSA_PADDINGS,
    SOURCES,
    TRUST,
    option,
)


@dataclass(frozen=True, slots=True)
class KeysOptions:
    """[keys]: where keys come from."""

    sources: tuple[str, ...] = option(
        ("smimea", "openpgpkey"),
        "Sources in order of preference: smimea, openpgpkey, directory, ldap (a company's directory, which [ldap] "
        "names), wkd (the Web Key Directory, OpenPGP), and learned (keys that authenticated mail brought; see "
        "smilla-learned(8)). wkd asks a web server of each recipient's domain; where that is broken, mail is deferred: "
        "see KEYS ON THE WEB in smilla.toml(5). learned comes last, and is asked only if all others prove that there "
        "is no key.",
        each=SOURCES,
    )
    trust: tuple[str, ...] = option(
        (),
        "What a key must rest on: dnssec (a signed zone: smimea, openpgpkey), directory (the administrator's word), "
        "web (the certificate of a web server: wkd), ldap (that of an LDAP server: ldap), learned (authenticated "
        "mail). A source that rests on nothing in this list is not asked. Empty: whatever sources names. A rule may "
        "say otherwise.",
        each=TRUST,
        may_be_empty=True,
    )
    subaddress: str = option(
        "+",
        "The character between a local part and its tag (Postfix: recipient_delimiter). If alice+tag has no key of "
        "its own, smilla takes alice's. This holds for the directory source and for addresses in local_domains, but "
        "not for others in DNS, because the RFCs forbid such mapping. Empty: no tags.",
        pattern=r"[!-/:;<=>?\[-`{-~]?",
        expected="one character that is not a letter or digit, such as +",
    )
    prefer: str = option(
        "compatible",
        "Which key to take if an answer has several usable ones. compatible: the strongest one that common programs "
        "can open (RSA, NIST curves, cv25519); other kinds (X25519, X448, Brainpool, ML-KEM, certificates for OAEP "
        "only, OpenPGP version 6) only if there is nothing else. The same goes for the subkeys of one OpenPGP key, "
        "and there the newest is taken. strongest: the strongest of all, and the newest subkey. If several are "
        "equally strong, the newest is taken. In the directory, a key that names the address comes first.",
        choices=PREFERENCES,
    )
    aliases: str = option(
        "",
        "Whose keys to use if a recipient is an alias. Empty: the keys of the address as given; if the message goes "
        "through the stage for another reason, also the keys of the addresses behind the alias. expanded: if a "
        "recipient in local_domains (or at this machine by name) has no usable key of their own, the message is "
        "sealed and goes through the stage. The MTA has expanded the alias by then, and the stage decides for each "
        "address behind it. Needs mixed = stage. See ALIASES in smilla-stage(7).",
        choices=("", "expanded"),
    )
    try_lowercase: bool = option(
        False,
        "If the exact local part has no record, ask for its lower-case form too. In the directory, take a file whose "
        "name differs only in the case of the local part. If this is off and such a file exists, nobody can tell "
        "whether it is the same mailbox: the address is unclear.",
    )
    directory: str = option(
        "",
        "Folder of the directory source: ADDRESS.crt, .cer, .der or .pem comes before ADDRESS.asc, .pgp or .gpg. The "
        "file name is the administrator's word for the address, so the key need not name it; if a file holds several "
        "keys, one that names it comes first. Everything in a file is a candidate. A file without a usable key is "
        "unusable_key.",
        absolute=True,
    )
    wkd_ca_file: str = option(
        CA_FILE,
        "The authorities, in PEM, that the web servers of wkd are verified with.",
        absolute=True,
    )
    wkd_probe: str = option(
        "debian.org",
        "A domain with a web server. config check --probe asks it for the key of its postmaster, to see whether HTTPS "
        "goes out from this machine; nothing else ever does. Empty: nobody is asked.",
        pattern=r"|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*",
        expected="a domain, such as debian.org",
    )


@dataclass(frozen=True, slots=True)
class SMIMEOptions:
    """[smime]: how CMS is written."""

    cipher: str = option(
        "aes256-cbc",
        "Content encryption. -gcm means AuthEnvelopedData, which few clients open. If a certificate lists its ciphers "
        "(smimeCapabilities) and this one is missing, smilla uses the first one in the list that it can "
        "write. No list turns -cbc into -gcm.",
        choices=CIPHERS,
    )
    rsa_padding: str = option(
        "pkcs1",
        "Key transport to RSA certificates. GnuPG and older NSS cannot open oaep-sha256. A certificate for OAEP only "
        "(id-RSAES-OAEP) is used with its own parameters.",
        choices=RSA_PADDINGS,
    )
    ecdh_kdf: str = option(
        "sha1",
        "Key derivation for EC certificates (NIST and Brainpool curves). sha1 (dhSinglePass-stdDH-sha1kdf-scheme) "
        "opens most widely; some profiles ask for sha256. X25519, X448 and ML-KEM have an HKDF of their own.",
        choices=ECDH_KDFS,
    )
    separate: bool = option(
        True,
        "Recipients whose certificates need different mechanisms (RSA with PKCS #1, RSA with OAEP, EC, X25519 and "
        "X448, ML-KEM) never share a message. NSS up to 3.87 (in Debian 12, but not 3.110 in Debian 13, nor "
        "Thunderbird's) opens no message that is also for an EC or OAEP recipient. Recipients with different ciphers "
        "never share a message anyway.",
    )
    ca_file: str = option(
        "",
        "PEM trust store for SMIMEA usages 0 and 1. They are unusable without it, unless a record of usage 2 in the "
        "same answer names their CA.",
        absolute=True,
    )
    crl_file: str = option(
        "",
        "Certificate revocation lists, PEM or DER, read at start and at reload. smilla checks each certificate of a "
        "path (SMIMEA usages 0 and 1) whose issuer has a list here; if the list is out of date, the key counts as "
        "unreachable. Not checked: certificates without a list here, certificates of usage 3 or from the directory, "
        "and OCSP. smilla fetches nothing. Empty: no check.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class OpenPGPOptions:
    """[openpgp]: how OpenPGP is written."""

    engine: str = option(
        "auto",
        "sequoia: in process, through pysequoia. gnupg: the gpg program. auto: Sequoia for a letter; gpg for a "
        "message of more than 1 MiB and for keys that Sequoia does not know, if each is installed. Sequoia holds the "
        "whole message in memory, five times over.",
        choices=("auto", "sequoia", "gnupg"),
    )
    seipd2: str = option(
        "v6",
        "When to write version 2 of the encrypted data (SEIPDv2, with AEAD), which gpg and RNP do not read. v6: only "
        "if every key is of version 6, so that a version 4 key can open its mail in any program it was moved to. "
        "announced: also if every key announces it (RFC 9580 section 5.2.3.32), as Sequoia does. All others get "
        "version 1. gpg writes only version 1, so a large message (see engine) is of version 1, unless one of its "
        "keys is of version 6.",
        choices=("announced", "v6"),
    )
    hidden_recipients: bool = option(
        False,
        "Name no recipient in the message: the key IDs are zeros, and a reader tries each of its keys. This needs "
        "gpg. A message to a key that gpg does not know (version 6) is deferred. RNP cannot open such a message.",
    )


@dataclass(frozen=True, slots=True)
class HeadersOptions:
    """[headers]: header fields inside what is encrypted (RFC 9788)."""

    protect: str = option(
        "off",
        "off: header fields stay outside only. copy: they are also copied inside, except Bcc and the fields added on "
        "the way (trace and signature fields), so that a reader shows them as they were sent. hide: as copy, but "
        "outside the Subject becomes [...], and Comments, Keywords and everything else that shows the Subject are "
        "removed. From, To, Cc, Date, Received and the fields used for threading stay outside. A reader without "
        "header protection never shows a hidden Subject: Thunderbird shows it in OpenPGP mail, not in S/MIME. Signed "
        "messages stay as they are, with the Subject outside. The default is off, so that a server can sort, search "
        "and filter mail at rest by its Subject. See smilla-headers(7).",
        choices=PROTECTIONS,
    )
