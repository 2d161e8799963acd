"""Every option once: its name, type, default, bounds and help.

The configuration file and its errors (config.py), ``smilla config sample`` and smilla.toml(5) (config_text.py) are all
made from the dataclasses below.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from smilla.address import Completion

DEFAULT_PATH = "/etc/smilla/smilla.toml"
PREFERENCES = ("compatible", "strongest")
_FAILURE_ACTIONS = ("plain", "defer", "refuse", "hold")
_NEVER_PLAIN = ("defer", "refuse", "hold")
_PROTECTIONS = ("off", "copy", "hide")
SOURCES = ("smimea", "openpgpkey", "directory")
FORMATS_OF = {"smimea": ("smime",), "openpgpkey": ("openpgp",), "directory": ("smime", "openpgp")}
KEY_FAILURES = ("no_key", "insecure", "bogus", "unreachable", "unusable_key")  # of a look-up
FAILURES = (*KEY_FAILURES, "unclear")
STYLE = ("cipher", "rsa_padding", "ecdh_kdf")
_CIPHERS = ("aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm")
_RSA_PADDINGS = ("pkcs1", "oaep-sha256")
_ECDH_KDFS = ("sha1", "sha256")
CONDITIONS = ("recipient", "sender", "domain", "client", "user", "direction")


def _option(default: Any, help_text: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **bounds})


@dataclass(frozen=True, slots=True)
class MilterOptions:
    """[milter]: the listening socket and the worker processes."""

    socket: str = _option(
        "unix:/run/smilla/smilla.sock",
        "Where the MTA connects, in libmilter's notation: unix:PATH or inet:PORT@HOST.",
        pattern=r"(unix|local):/.+|inet6?:\d{1,5}@.+",
        expected="unix:/PATH or inet:PORT@HOST",
    )
    workers: int = _option(0, "Worker processes; 0 means one per CPU.", minimum=0, maximum=1024)
    timeout_s: int = _option(
        7210,
        "Seconds of silence from the MTA after which a connection is dropped. A slow upload leaves it idle for long.",
        minimum=10,
        maximum=86400,
    )
    user: str = _option("", "User (and its group) to become when started as root. Empty: stay.")
    socket_group: str = _option("", "Group of a UNIX socket. Empty: the group of the process.")
    socket_mode: str = _option(
        "0660", "Mode of a UNIX socket, in octal.", pattern=r"0?[0-7]{3}", expected="an octal mode such as 0660"
    )
    stop_timeout_s: int = _option(
        30, "Seconds that messages in flight have to finish after SIGTERM.", minimum=0, maximum=3600
    )


@dataclass(frozen=True, slots=True)
class DNSOptions:
    """[dns]: who answers, and why the answer is believed."""

    nameservers: tuple[str, ...] = _option(
        ("127.0.0.1",),
        "Resolvers in order of preference: ADDRESS or ADDRESS@PORT. With dnssec = validate they are forwarded to, "
        "and an empty list means to ask the authoritative name servers.",
        check="nameserver",
    )
    dnssec: str = _option(
        "resolver",
        "resolver: believe the AD bit of these nameservers, which must be on loopback; a forwarder there may pass on "
        "somebody else's AD bit, so it has to be a validating resolver itself. validate: validate in process, by "
        "libunbound, whatever the nameservers do.",
        choices=("resolver", "validate"),
    )
    trust_anchor: str = _option(
        "/usr/share/dns/root.key", "For dnssec = validate: the trust anchor, zone-file form, DNSKEY or DS."
    )
    timeout_s: float = _option(5.0, "Seconds for one message's look-ups together.", minimum=0.1, maximum=60)
    probe: str = _option(
        ".", "A zone known to be signed; any answer about it with the AD bit proves that the resolver validates."
    )
    cache_entries: int = _option(20000, "Answers that each worker remembers.", minimum=0, maximum=10_000_000)
    cache_mib: int = _option(32, "Their size together, in MiB.", minimum=0, maximum=65536)
    cache_ttl_s: int = _option(
        3600, "Seconds that an answer is remembered at the most, whatever its TTL.", minimum=0, maximum=86400
    )
    failure_ttl_s: int = _option(
        10, "Seconds that a bogus answer or the lack of any is remembered.", minimum=0, maximum=300
    )


@dataclass(frozen=True, slots=True)
class KeysOptions:
    """[keys]: where keys come from."""

    sources: tuple[str, ...] = _option(
        ("smimea", "openpgpkey"), "Sources in order of preference: smimea, openpgpkey, directory.", each=SOURCES
    )
    subaddress: str = _option(
        "+",
        "What separates a tag from a local part (Postfix: recipient_delimiter): where alice+tag has no key of its own, "
        "alice's is taken. For the directory source, and for addresses in local_domains; not for others in DNS, since "
        "the RFCs forbid such mapping. Empty: nothing does.",
        pattern=r"[!-/:;<=>?\[-`{-~]?",
        expected="one character that is no letter or digit, such as +",
    )
    prefer: str = _option(
        "compatible",
        "Which of several usable keys of one answer is taken. compatible: the strongest of those that common programs "
        "open (RSA, NIST curves, cv25519), and one of another kind (X25519, X448, Brainpool, ML-KEM, certificates for "
        "OAEP only, OpenPGP version 6) only where there is none of them; so with the subkeys of one OpenPGP key, of "
        "which the newest is taken. strongest: the strongest of all, and the newest subkey. Of equally strong ones the "
        "newest is taken. In the directory, what names the address comes first.",
        choices=PREFERENCES,
    )
    try_lowercase: bool = _option(
        False,
        "Where the exact local part has no record, ask for its lower-case form too; in the directory, take a file "
        "whose name differs in the case of the local part. Where it does and this is off, nobody can tell whether it "
        "is the same mailbox, which is unclear.",
    )
    directory: str = _option(
        "",
        "Folder of the directory source: ADDRESS.crt, .cer, .der or .pem before ADDRESS.asc, .pgp or .gpg. The file's "
        "name is the administrator's word for the address, so the key need not name it; of several in a file, one that "
        "does comes first. All that is in a file is a candidate, and a file without a usable key is unusable_key.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class SMIMEOptions:
    """[smime]: how CMS is written."""

    cipher: str = _option(
        "aes256-cbc",
        "Content encryption; -gcm is AuthEnvelopedData, which few clients open. A certificate that announces its "
        "ciphers (smimeCapabilities) and not this one gets the first of these that it does announce, save that no "
        "list turns -cbc into -gcm.",
        choices=_CIPHERS,
    )
    rsa_padding: str = _option(
        "pkcs1",
        "Key transport to RSA certificates. oaep-sha256 does not open in GnuPG and older NSS. A certificate for OAEP "
        "only (id-RSAES-OAEP) is used with its own parameters.",
        choices=_RSA_PADDINGS,
    )
    ecdh_kdf: str = _option(
        "sha1",
        "Key derivation for EC certificates (NIST and Brainpool curves): sha1 (dhSinglePass-stdDH-sha1kdf-scheme) "
        "opens most widely, sha256 is asked for by some profiles. X25519, X448 and ML-KEM have an HKDF of their own.",
        choices=_ECDH_KDFS,
    )
    separate: bool = _option(
        True,
        "Recipients whose certificates need different mechanisms (RSA with PKCS #1, RSA with OAEP, EC, X25519 and "
        "X448, ML-KEM) never share a message: NSS up to 3.87 (Debian 12's; not Debian 13's 3.110, nor Thunderbird's) "
        "opens no message that is for an EC or OAEP recipient too. Recipients with different ciphers never do.",
    )
    ca_file: str = _option(
        "",
        "PEM trust store for SMIMEA usages 0 and 1, which are unusable without it, save where a record of usage 2 in "
        "the same answer names their CA.",
        absolute=True,
    )
    crl_file: str = _option(
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

    engine: str = _option(
        "auto",
        "sequoia: in process, through pysequoia; gnupg: the gpg program; auto: Sequoia for a letter, gpg for a message "
        "of more than 1 MiB and for keys that Sequoia does not know, as far as they are there. Sequoia holds a message "
        "whole in memory, five times over.",
        choices=("auto", "sequoia", "gnupg"),
    )
    seipd2: str = _option(
        "v6",
        "Who gets version 2 of the encrypted data (SEIPDv2, with AEAD), which gpg and RNP do not read. v6: a message "
        "of which every key is of version 6, so that a version 4 key opens its mail in whatever program it was taken "
        "to. announced: also a message of which every key announces it (RFC 9580 section 5.2.3.32), as Sequoia does. "
        "All others get version 1. gpg writes version 1 only, so a large message (see engine) is of version 1, save "
        "where a key is of version 6.",
        choices=("announced", "v6"),
    )
    hidden_recipients: bool = _option(
        False,
        "Name no recipient in the message: instead of key IDs there are zeros, and a reader tries each of its keys. "
        "gpg is needed; a message to a key that it does not know (version 6) is deferred. RNP opens no such message.",
    )


@dataclass(frozen=True, slots=True)
class HeadersOptions:
    """[headers]: header fields inside what is encrypted (RFC 9788)."""

    protect: str = _option(
        "off",
        "off: header fields stay outside only. copy: they are copied inside, too, all but Bcc and what is written on "
        "the way (trace and signature fields), so that a reader shows them as they were sent. hide: the same, and "
        "outside the Subject is [...], and Comments, Keywords and all else that shows the Subject are gone; From, To, "
        "Cc, Date, Received and what threads are made of stay. A reader that knows no header protection never shows a "
        "hidden Subject: Thunderbird "
        "shows it in OpenPGP mail, not in S/MIME. Signed messages are left as they are, with the Subject outside. Off, "
        "so that a server can sort, search and filter mail at rest by its Subject. See HEADER PROTECTION in smilla(8).",
        choices=_PROTECTIONS,
    )


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """[policy]: what each failure does."""

    no_key: str = _option(
        "plain",
        "Proven absence, or a zone that is provably not signed and has no other key.",
        choices=_FAILURE_ACTIONS,
    )
    unclear: str = _option(
        "",
        "What smilla could not understand, though the MTA may deliver it: an address that two programs may read "
        "differently, or one for which DNS cannot be asked, such as an address literal. Nobody can tell whether there "
        "is a key, so it is never plain. Empty: refuse outbound, defer inbound.",
        choices=("", *_NEVER_PLAIN),
    )
    insecure: str = _option("plain", "A key was found but its zone is not signed.", choices=_FAILURE_ACTIONS)
    bogus: str = _option(
        "defer",
        "Forged or indeterminate, a name under no trust anchor, a resolver that fails the probe.",
        choices=_NEVER_PLAIN,
    )
    unreachable: str = _option("defer", "Time-out, SERVFAIL, no nameserver.", choices=_NEVER_PLAIN)
    unusable_key: str = _option(
        "",
        "Meant for encryption, but expired, revoked, for another address, too weak or malformed. "
        "Empty: refuse outbound, defer inbound.",
        choices=("", *_FAILURE_ACTIONS),
    )
    mixed: str = _option(
        "reinject",
        "Recipients that need different bytes. reinject: one form stays in the message that the MTA holds, the others "
        "go to [reinject] smtp; defer and refuse: the sender has to send them one by one.",
        choices=("reinject", "defer", "refuse"),
    )
    one_fails: str = _option(
        "whole",
        "A recipient to be deferred or refused beside others who can be served. whole: the reply is for the whole "
        "message. bounce: the others get it, and that one is bounced (a delivery status notification with the header "
        "fields only), where the client authenticated or is in internal_networks, a sender is named, and the "
        "recipient's NOTIFY allows it; whole otherwise. Needs mixed = reinject.",
        choices=("whole", "bounce"),
    )
    wish_subject: str = _option(
        "",
        "A word in the Subject of outbound mail, such as [encrypt], by which a sender asks that the message goes "
        "encrypted or not at all, to recipients in local_domains as well. It is removed before sending. In mode auto "
        "it holds for mail from one of ours, to whomever, and for mail that is relayed; inbound, a stranger's word is "
        "neither heeded nor removed. Empty: no such word.",
    )
    wish_header: str = _option(
        "",
        "The name of a header field, such as X-Encrypt, that says the same (unless its value is no, false or 0). It is "
        "removed before sending. Empty: no such field.",
        pattern=r"|[!-9;-~]{1,70}",
        expected="the name of a header field, such as X-Encrypt",
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """[[rule]]: the first that matches a recipient overrides the keys that it names. All its conditions must hold."""

    recipient: str = _option(
        "", "Shell pattern for the recipient's address; its domain without regard to case.", check="pattern"
    )
    sender: str = _option("", "Shell pattern for the envelope sender; <> is the null sender.", check="pattern")
    domain: tuple[str, ...] = _option((), "Names or shell patterns; the recipient's domain is one.", check="domain")
    client: tuple[str, ...] = _option((), "Networks; the client is in one.", check="network")
    user: str = _option("", "Shell pattern for the name as which the client authenticated; * is any.", check="user")
    direction: str = _option(
        "", "The direction of the message for this recipient.", choices=("", "outbound", "inbound")
    )
    encrypt: str = _option(
        "",
        "require: look for a key whatever mode and local_domains say, and refuse what would go plain; never: look for "
        "none, and send plain.",
        choices=("", "require", "never"),
    )
    formats: tuple[str, ...] = _option(
        (),
        "The formats allowed: smime, openpgp, the preferred one first. Empty: any, in the order of the sources.",
        each=("smime", "openpgp"),
    )
    also_to: tuple[str, ...] = _option(
        (),
        "Further readers: addresses whose usable keys are always among those that the message is encrypted to, sender "
        "for the envelope sender's. They can read it; they get no copy. Where such a key is bogus or unreachable the "
        "message is deferred, where there is none it goes without. Recipients may be unable to open a message that is "
        "for an EC key too (see separate in [smime]): an RSA certificate is best here.",
        check="reader",
    )
    cipher: str = _option(
        "",
        "As in [smime], and whatever the certificate announces.",
        choices=("", *_CIPHERS),
    )
    rsa_padding: str = _option("", "As in [smime].", choices=("", *_RSA_PADDINGS))
    ecdh_kdf: str = _option("", "As in [smime].", choices=("", *_ECDH_KDFS))
    hidden_recipients: bool = _option(False, "As in [openpgp]; true where either of the two is.")
    at_rcpt: bool = _option(
        False,
        "Defer or refuse this recipient alone, at RCPT, where its key fails; a message that is encrypted already is "
        "then deferred or refused as well, since nobody knows its content yet. Not for mail from sendmail(1).",
    )
    no_key: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))
    unclear: str = _option("", "As in [policy].", choices=("", *_NEVER_PLAIN))
    insecure: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))
    bogus: str = _option("", "As in [policy].", choices=("", *_NEVER_PLAIN))
    unreachable: str = _option("", "As in [policy].", choices=("", *_NEVER_PLAIN))
    unusable_key: str = _option("", "As in [policy].", choices=("", *_FAILURE_ACTIONS))
    protect_headers: str = _option("", "As [headers] protect.", choices=("", *_PROTECTIONS))


@dataclass(frozen=True, slots=True)
class ReinjectOptions:
    """[reinject]: where further copies of a message go."""

    smtp: str = _option(
        "127.0.0.1:10025",
        "A listener of the MTA without this milter, which takes mail from smilla only. It must still sign (DKIM).",
        pattern=r".+:\d{1,5}",
        expected="HOST:PORT",
    )
    spool: str = _option(
        "/var/lib/smilla",
        "Folder of the journal of copies owed and accepted, with no plaintext, ciphertext or address in it; created "
        "0700 where missing.",
        absolute=True,
    )
    max_copies: int = _option(
        100,
        "Recipients for whom encryption is wanted, in one message: each may need a copy of their own. Further ones get "
        "452 4.5.3 at RCPT, so that the sending MTA takes them in another transaction.",
        minimum=1,
        maximum=10000,
    )
    remember_s: int = _option(
        432000,
        "Seconds for which the journal remembers which copies of a message were accepted: as long as a client may "
        "try again.",
        minimum=60,
        maximum=31536000,
    )
    timeout_s: int = _option(
        60,
        "Seconds to wait for each reply of the listener, save that to the end of a message, which may take 300.",
        minimum=1,
        maximum=300,
    )


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """[spool]: where large bodies are kept while a message is handled."""

    threshold_kib: int = _option(
        256,
        "Bodies up to this size, in KiB, are kept in memory; larger ones go, in blocks of 256 KiB, to a file without a "
        "name, encrypted there with a key that exists in memory only.",
        minimum=0,
        maximum=1_048_576,
    )
    folder: str = _option(
        "/var/tmp",  # noqa: S108 - the file has no name, and is ciphertext
        "Folder of these files. It needs room for the bodies that are under way at once.",
        absolute=True,
    )


@dataclass(frozen=True, slots=True)
class LogOptions:
    """[log]: where the log goes."""

    level: str = _option("info", "The least that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = _option("text", "text or json, one line an event.", choices=("text", "json"))
    target: str = _option("stderr", "stderr, or syslog's mail facility.", choices=("stderr", "syslog"))


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, immutable: a reload makes another one."""

    observe: bool = _option(False, "Decide and log, change nothing; for the first weeks.")
    mode: str = _option(
        "outbound",
        "outbound: protect mail on its way; inbound: protect mail at rest; auto: outbound where {auth_authen} is set, "
        "{daemon_name} is ORIGINATING or the client is in internal_networks, else inbound; for each recipient, inbound "
        "where they are in local_domains, outbound where they are not, whoever the client is.",
        choices=("outbound", "inbound", "auto"),
    )
    local_domains: tuple[str, ...] = _option(
        (),
        "Names or shell patterns (*.example.org). Inbound mode encrypts for recipients in these only (empty: a "
        "fault), outbound for all others (empty: for all); in auto, mail to these is inbound, to all others outbound. "
        "The MTA's own name and localhost are local as well where mail is inbound; their mailboxes have the keys of "
        "append_origin. In auto, the domains that the MTA relays for (relay_domains of a backup MX) belong here, or in "
        'a rule with encrypt = "never".',
        check="domain",
    )
    internal_networks: tuple[str, ...] = _option(
        ("127.0.0.0/8", "::1"),
        "Clients that are ours in mode auto, besides those that authenticate: every network that the MTA relays for "
        "(Postfix: mynetworks). Mail that it relays for others is outbound all the same, and logged as relayed.",
        check="network",
    )
    append_origin: str = _option(
        "",
        "The domain that the MTA appends to a recipient without one (Postfix: myorigin). Empty: the first of "
        "local_domains that is no pattern.",
        check="origin",
    )
    append_domain: str = _option(
        "",
        "The domain that the MTA appends to the domain of a recipient where that is a single label (Postfix: mydomain, "
        "where append_dot_mydomain = yes): bob@partner is then bob@partner.example.org, for rules and for look-ups. "
        "Empty: none; a single label that is not in local_domains is unclear, save localhost, which is this machine.",
        check="origin",
    )
    milter: MilterOptions = MilterOptions()
    dns: DNSOptions = DNSOptions()
    keys: KeysOptions = KeysOptions()
    smime: SMIMEOptions = SMIMEOptions()
    openpgp: OpenPGPOptions = OpenPGPOptions()
    headers: HeadersOptions = HeadersOptions()
    policy: PolicyOptions = PolicyOptions()
    rule: tuple[Rule, ...] = ()
    reinject: ReinjectOptions = ReinjectOptions()
    spool: SpoolOptions = SpoolOptions()
    log: LogOptions = LogOptions()

    @property
    def origin(self) -> str:
        """The domain of recipients without one, "" where it is not known."""
        names = (name for name in self.local_domains if not set(name) & set("*?["))
        return self.append_origin or next(names, "")

    @property
    def completion(self) -> Completion:
        """What the MTA adds to an incomplete recipient."""
        return Completion(self.origin, self.append_domain)


SECTIONS: dict[str, type[Any]] = {
    "milter": MilterOptions,
    "dns": DNSOptions,
    "keys": KeysOptions,
    "smime": SMIMEOptions,
    "openpgp": OpenPGPOptions,
    "headers": HeadersOptions,
    "policy": PolicyOptions,
    "rule": Rule,
    "reinject": ReinjectOptions,
    "spool": SpoolOptions,
    "log": LogOptions,
}


def options(section: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The options of one section by name, sections and rules left out."""
    return {f.name: f for f in dataclasses.fields(section) if "help" in f.metadata}
