"""The options of keys and of what is written to them."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import CIPHERS, ECDH_KDFS, PREFERENCES, PROTECTIONS, RSA_PADDINGS, SOURCES, option


@dataclass(frozen=True, slots=True)
class KeysOptions:
    """[keys]: where keys come from."""

    sources: tuple[str, ...] = option(
        ("smimea", "openpgpkey"), "Sources in order of preference: smimea, openpgpkey, directory.", each=SOURCES
    )
    subaddress: str = option(
        "+",
        "What separates a tag from a local part (Postfix: recipient_delimiter): where alice+tag has no key of its own, "
        "alice's is taken. For the directory source, and for addresses in local_domains; not for others in DNS, since "
        "the RFCs forbid such mapping. Empty: nothing does.",
        pattern=r"[!-/:;<=>?\[-`{-~]?",
        expected="one character that is no letter or digit, such as +",
    )
    prefer: str = option(
        "compatible",
        "Which of several usable keys of one answer is taken. compatible: the strongest of those that common programs "
        "open (RSA, NIST curves, cv25519), and one of another kind (X25519, X448, Brainpool, ML-KEM, certificates for "
        "OAEP only, OpenPGP version 6) only where there is none of them; so with the subkeys of one OpenPGP key, of "
        "which the newest is taken. strongest: the strongest of all, and the newest subkey. Of equally strong ones the "
        "newest is taken. In the directory, what names the address comes first.",
        choices=PREFERENCES,
    )
    aliases: str = option(
        "",
        "Whose keys count where a recipient is an alias. Empty: those of the address as it was given; where a message "
        "goes through the stage for another reason, also those of whom the alias led to. expanded: each message with "
        "a recipient in local_domains (or at this machine by name) whose own address has no usable key is sealed and "
        "goes through the stage, where the MTA has expanded it; whomever it led to is decided about there. Needs mixed "
        "= stage. See Aliases under THE STAGE in smilla(8).",
        choices=("", "expanded"),
    )
    try_lowercase: bool = option(
        False,
        "Where the exact local part has no record, ask for its lower-case form too; in the directory, take a file "
        "whose name differs in the case of the local part. Where it does and this is off, nobody can tell whether it "
        "is the same mailbox, which is unclear.",
    )
    directory: str = option(
        "",
        "Folder of the directory source: ADDRESS.crt, .cer, .der or .pem before ADDRESS.asc, .pgp or .gpg. The file's "
        "name is the administrator's word for the address, so the key need not name it; of several in a file, one that "
        "does comes first. All that is in a file is a candidate, and a file without a usable key is unusable_key.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class SMIMEOptions:
    """[smime]: how CMS is written."""

    cipher: str = option(
        "aes256-cbc",
        "Content encryption; -gcm is AuthEnvelopedData, which few clients open. A certificate that announces its "
        "ciphers (smimeCapabilities) and not this one gets the first of these that it does announce, save that no "
        "list turns -cbc into -gcm.",
        choices=CIPHERS,
    )
    rsa_padding: str = option(
        "pkcs1",
        "Key transport to RSA certificates. oaep-sha256 does not open in GnuPG and older NSS. A certificate for OAEP "
        "only (id-RSAES-OAEP) is used with its own parameters.",
        choices=RSA_PADDINGS,
    )
    ecdh_kdf: str = option(
        "sha1",
        "Key derivation for EC certificates (NIST and Brainpool curves): sha1 (dhSinglePass-stdDH-sha1kdf-scheme) "
        "opens most widely, sha256 is asked for by some profiles. X25519, X448 and ML-KEM have an HKDF of their own.",
        choices=ECDH_KDFS,
    )
    separate: bool = option(
        True,
        "Recipients whose certificates need different mechanisms (RSA with PKCS #1, RSA with OAEP, EC, X25519 and "
        "X448, ML-KEM) never share a message: NSS up to 3.87 (Debian 12's; not Debian 13's 3.110, nor Thunderbird's) "
        "opens no message that is for an EC or OAEP recipient too. Recipients with different ciphers never do.",
    )
    ca_file: str = option(
        "",
        "PEM trust store for SMIMEA usages 0 and 1, which are unusable without it, save where a record of usage 2 in "
        "the same answer names their CA.",
        absolute=True,
    )
    crl_file: str = option(
        "",
        "Certificate revocation lists, PEM or DER, read at start and at reload. Every certificate of a path (SMIMEA "
        "usages 0 and 1) whose issuer has a list here is checked; with a list that is out of date it counts as "
        "unreachable. Not checked: certificates without a list here, those of usage 3 and of the directory, OCSP; "
        "nothing is fetched. Empty: none is checked.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class OpenPGPOptions:
    """[openpgp]: how OpenPGP is written."""

    engine: str = option(
        "auto",
        "sequoia: in process, through pysequoia; gnupg: the gpg program; auto: Sequoia for a letter, gpg for a message "
        "of more than 1 MiB and for keys that Sequoia does not know, as far as they are there. Sequoia holds a message "
        "whole in memory, five times over.",
        choices=("auto", "sequoia", "gnupg"),
    )
    seipd2: str = option(
        "v6",
        "Who gets version 2 of the encrypted data (SEIPDv2, with AEAD), which gpg and RNP do not read. v6: a message "
        "of which every key is of version 6, so that a version 4 key opens its mail in whatever program it was taken "
        "to. announced: also a message of which every key announces it (RFC 9580 section 5.2.3.32), as Sequoia does. "
        "All others get version 1. gpg writes version 1 only, so a large message (see engine) is of version 1, save "
        "where a key is of version 6.",
        choices=("announced", "v6"),
    )
    hidden_recipients: bool = option(
        False,
        "Name no recipient in the message: instead of key IDs there are zeros, and a reader tries each of its keys. "
        "gpg is needed; a message to a key that it does not know (version 6) is deferred. RNP opens no such message.",
    )


@dataclass(frozen=True, slots=True)
class HeadersOptions:
    """[headers]: header fields inside what is encrypted (RFC 9788)."""

    protect: str = option(
        "off",
        "off: header fields stay outside only. copy: they are copied inside, too, all but Bcc and what is written on "
        "the way (trace and signature fields), so that a reader shows them as they were sent. hide: the same, and "
        "outside the Subject is [...], and Comments, Keywords and all else that shows the Subject are gone; From, To, "
        "Cc, Date, Received and what threads are made of stay. A reader that knows no header protection never shows a "
        "hidden Subject: Thunderbird "
        "shows it in OpenPGP mail, not in S/MIME. Signed messages are left as they are, with the Subject outside. Off, "
        "so that a server can sort, search and filter mail at rest by its Subject. See HEADER PROTECTION in smilla(8).",
        choices=PROTECTIONS,
    )
