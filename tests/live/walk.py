"""What an administrator does with README.md and the manual in hand, on a machine of their own (tests/lab/machine.py).

client -> Debian's Postfix as the guides change it -> smilla, installed as README.md says -> sink
                                                      asks the laboratory's DNS on port 53: example.net, example.org
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.client import SMTPClient
from tests.lab.dns import DNSLab
from tests.lab.documents import Block, all_blocks
from tests.lab.keys import make_openpgp_key, make_smime_key
from tests.lab.machine import Machine
from tests.lab.postfix import queue_id
from tests.lab.processes import ChildError, wait_until
from tests.lab.programs import REPOSITORY
from tests.lab.sink import Sink
from tests.live.mta import letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.sink import ReceivedMail

CONFIGURATION = "/etc/smilla/smilla.toml"
BLOCKS = all_blocks()
_DOWNLOADS = ("apt-get ", "pip install ", "make deb")
_PACKAGES = "postfix bind9"
_CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout {0}.key -out {0}.crt -subj /CN={0} -days 30"
    " -addext subjectAltName=email:{0}@example.org"
)
_QUEUE_ID = "4FbXyz1234z"  # stands for that of a sealed message
# Exit codes other than 0 that a line may have, and why.
MAY_FAIL = {
    "smilla config check --probe": (1, "names what is still missing"),
    "smilla init --yes --output /tmp/smilla.toml": (1, "names what is still missing"),
    "smilla init --yes --secure-hop --output /tmp/smilla.toml": (1, "names what is still missing"),
    "smilla init --apply --local-domain example.org": (1, "names what is still missing"),
    "smilla init --apply": (1, "names what is still missing"),
    "smilla hop example.net": (1, "example.net has neither DANE nor MTA-STS"),
    "smilla survey example.org": (75, "the walk's network has no mail server; test_survey has some"),
    "smilla survey -v alice@example.org": (75, "the same"),
    "smilla survey -f list --resume results.jsonl --html report.html": (75, "the same"),
    "smilla watch --quiet": (1, "the key of the folder is not published"),
    "smilla watch --quiet --mx example.org": (1, "the walk's example.org has no mail server; test_watch_mx has some"),
    "smilla expiring -f list --mail --from postmaster@example.org --dry-run": (1, "some key ends"),
    "smilla expiring --used": (1, "some key ends"),
    "smilla learned forget alice@example.net": (1, "no mail has brought one"),
    "smilla status": (1, "names what needs attention, such as a Postfix that was reloaded a moment ago"),
}


# A key in the folder, which is not published.
_HELD = (
    "mkdir -p /etc/smilla/keys && cp me.crt /etc/smilla/keys/me@example.org.crt && "
    """(grep -qxF '[keys]' /etc/smilla/smilla.toml ||"""
    """ printf '\\n[keys]\\ndirectory = "/etc/smilla/keys"\\n' >>/etc/smilla/smilla.toml)"""
)


def _put_back(folder: str) -> str:
    """Each file at once: a process of Postfix that starts meanwhile must not find an empty one."""
    new = "/etc/postfix/new"
    return f'for f in {folder}/*; do test -d "$f" || (cp -a "$f" {new} && mv {new} "/etc/postfix/${{f##*/}}"); done'


_HANDED_IN = f"{_CERTIFICATE.format('alice')} && {_HELD}"
# A mailbox of alice's, and the configuration of the page.
_LIES_THERE = (
    "mkdir -p ~/Maildir/cur ~/Maildir/new ~/Maildir/tmp && cp letter.eml ~/Maildir/cur/1.a:2,S && "
    """printf 'mode = "inbound"\nlocal_domains = ["example.org"]\n[keys]\nsources = ["directory"]\n"""
    """directory = "/etc/smilla/keys"\n' >/etc/smilla/smilla.toml"""
)
# What must be there before the lines of a page, and before one line.
_NEEDED = {
    "smilla-at-rest.7": f"{_HANDED_IN} && {_LIES_THERE}",
    "smilla-expiring.8": f"echo alice@example.net >list && {_HELD}",
    "smilla-store.7": """printf '\\n[store]\\nurl = "postgresql:///smilla?host=/run/postgresql"\\n'"""
    """ >>/etc/smilla/smilla.toml""",
    "smilla-survey.8": "printf 'example.net\\nexample.org\\n' >list",
    "smilla-watch.8": _HELD,
    "smilla-hops.7": "touch circle-new.pem",
    "smilla-init.8": f"{_put_back('/root/postfix')} && rm -rf /etc/postfix/smilla_* /etc/smilla/*",
    "smilla-keys.8": _HANDED_IN,
    "smilla-keygen.8": "echo secret >password && smilla keygen hugh@example.org --password-file password",
    "smilla-migrate.7": "mkdir -p -m 700 /var/lib/zeyple/keys /etc/smilla/keys && "
    + " && ".join(
        f"gpg -q --batch --homedir {home} --passphrase '' --quick-gen-key {whose} future-default"
        for home, whose in (("/root/.gnupg", "bob@example.net"), ("/var/lib/zeyple/keys", "alice@example.org"))
    ),
    "smilla-record.8": "gpg -q --batch --passphrase '' --quick-gen-key hugh@example.org future-default",
    "smilla-wkd.8": "export GNUPGHOME=$(mktemp -d) && "
    "gpg -q --batch --passphrase '' --quick-gen-key hugh@example.org future-default && "
    "gpg -q --export hugh@example.org >hugh.pgp && mkdir -p /etc/smilla/keys && cp hugh.pgp /etc/smilla/keys",
    "smilla-web.7": "python3 -m venv /opt/smilla",
}
_BEFORE = {
    'smilla keygen hugh@example.org --name "Hugh Example"': "rm hugh@example.org.*",
    # No systemd starts it there.
    "su postgres -c 'createuser smilla'": "pg_lsclusters -h | while read version name _; do "
    "pg_ctlcluster --skip-systemctl-redirect $version $name start; done",
}
_PASSWORDS = b"secret\nsecret\nsecret\n"  # whoever asks for one
ELSEWHERE = {
    "make demo": "make test and make in-root run it",
    "ssh -L 9470:127.0.0.1:9470 mail.example.org": "needs another machine",
    "journalctl -u smilla --grep 4FbXyz1234z": "needs systemd; test_journald.py reads a real journal",
    "journalctl -u smilla SMILLA_RECIPIENT=ann@example.org": "needs systemd; test_journald.py reads a real journal",
    "smilla milter --config ./smilla.toml": "runs until it is told to stop, as the service does here",
    "smilla relay --config ./smilla.toml": "the same; test_relay.py runs it",
    "install -o smilla -m 600 relay.key /etc/smilla/relay.key": "needs a key; test_relay_tls.py has one",
    "smilla publish hugh@example.org --cert hugh@example.org.crt --server ns1.example.org --tsig-key "
    "/etc/smilla/update.key": "needs a primary; test_publish.py has some",
    "smilla publish hugh@example.org --cert hugh.crt --server 127.0.0.1 --tsig-key /etc/smilla/update.key": "the same",
    "smilla withdraw hugh@example.org --smimea --server 127.0.0.1 --tsig-key /etc/smilla/update.key": "the same",
    "smilla publish hugh@example.org --key hugh.pgp --minimal --via desec --token-file ~/.desec-token": "needs deSEC; "
    "test_desec.py speaks to a stand-in",
    "postmap -q example.net socketmap:unix:/var/spool/postfix/smilla/tls.sock:secure": "needs secure-hop in the "
    "configuration; test_hops.py asks",
    "postmap -q example.net socketmap:unix:/var/spool/postfix/smilla/tls.sock:policy": "the same",
    "postmap -q org2.example socketmap:unix:/var/spool/postfix/smilla/tls.sock:secure": "the same",
    "smilla hop org2.example": "needs a circle; test_circle.py has one",
    "smilla mailbox encrypt --address hugh@example.org --maildir ~/Maildir --all-folders --dry-run": "needs a mailbox; "
    "test_mailbox.py has some",
    "smilla mailbox encrypt --address hugh@example.org --maildir ~/Maildir --all-folders --keep-original Plain": "the "
    "same",
    "smilla mailbox encrypt --address hugh@example.org --imap imap.example.org --before 2025-11-29 "
    '--search "LARGER 1048576"': "the same",
    "smilla mailbox decrypt --key hugh.p12 --imap imap.example.org --user hugh --all-folders": "the same",
    "smilla mailbox encrypt --address hugh@example.org --imap localhost --user hugh*master --password-file master": ""
    "the same",
    "openssl s_client -starttls smtp -connect localhost:25 </dev/null": "the walk's Postfix has no certificate",
    'posttls-finger -L verbose,summary "[localhost]"': "the same",
    "smilla hop --json example.net example.org": "there is no example.org; test_hops.py has more domains",
}


@dataclass
class Walk:
    """``alice`` and ``bob`` of example.net publish a certificate and a key; ``nobody`` publishes none.
    ``sealed`` is the queue ID of a message that waits for the stage, ``observed`` a reply."""

    folder: Path
    observed: str = ""
    sealed: str = ""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _begin(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="walk-", dir=self.folder))
        keys = place / "keys"
        keys.mkdir()
        self.alice = make_smime_key(keys, "alice@example.net")
        self.bob = self.stack.enter_context(make_openpgp_key(keys, "bob@example.net"))
        self.somebody = self.stack.enter_context(make_openpgp_key(keys, "somebody@example.net"))
        self.machine = self.stack.enter_context(Machine(place))
        apt = f"apt-get -q install {_PACKAGES}"
        if (done := self.machine.run(f"{apt} || (apt-get -q update && {apt})", outside=True)).returncode != 0:
            raise ChildError(f"no packages from Debian: {done.stdout}")
        with self.machine.network():
            dns = DNSLab(place / "dns")
            dns.port = 53
            published = dns.zone("example.net")
            published.add_smimea("alice@example.net", self.alice.raw_certificate)
            published.add_openpgpkey("bob@example.net", self.bob.raw)
            published.add_openpgpkey("somebody@example.net", self.somebody.raw)
            dns.zone("example.org")
            dns.zone("")
            self.stack.enter_context(dns)
            self.sink = self.stack.enter_context(Sink())
        for name in ("me", "hugh"):
            self.must(_CERTIFICATE.format(name))
        self.must("openssl pkcs12 -export -in hugh.crt -inkey hugh.key -out hugh.p12 -passout pass:")
        for name in ("letter.eml", "message.eml"):
            self.machine.write(REPOSITORY / name, letter())
        self.must(f"postconf -e 'relayhost=[127.0.0.1]:{self.sink.port}' maillog_file=/var/log/postfix.log")
        # Debian 13's hands this over to systemd, unless systemd is who calls it.
        self.must("cp -a /etc/postfix /root/postfix && INVOCATION_ID=1 postfix start")

    def must(self, command: str) -> str:
        """Runs one command; its output.  A download goes through the network of this machine."""
        words = command.replace("'", "")
        outside = any(word in words for word in _DOWNLOADS)
        done = self.machine.run(command, _PASSWORDS, outside=outside)
        if command.endswith("smilla config check --postfix") and done.returncode == 1:
            # Postfix reads its files a moment after "postfix reload"; whoever is told so tries again.
            wait_until(lambda: self.machine.run(command).returncode == 0, 60, step_s=1)
            done = self.machine.run(command)
        allowed, _ = MAY_FAIL.get(command, (0, ""))
        assert done.returncode in (0, allowed), f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def follow(self, pages: Sequence[str]) -> None:
        """Does what the blocks of these pages say, in their order."""
        for block in [block for page in pages for block in BLOCKS if block.page == page]:
            if block.what == "shell":
                for command in block.commands:
                    self.must(_BEFORE.get(command, "true"))
                    if command not in ELSEWHERE:
                        self.must(command.replace(_QUEUE_ID, self.sealed))
            elif block.what == "crontab":
                for line in block.text.splitlines()[1:]:
                    self.must(line.split(maxsplit=6)[6])
            elif block.what == "main.cf":
                self.main_cf(block)
            elif block.what == "master.cf":
                self.master_cf(block)
            elif block.what == "smilla.toml" and block.page == "README.md":
                text = "\n" + "\n".join(block.text.splitlines()[1:]) + "\n"
                assert self.machine.run(f"cat >>{CONFIGURATION}", text.encode()).returncode == 0

    @contextlib.contextmanager
    def as_it_was(self, page: str) -> Iterator[None]:
        """What a page needs and README.md does not make; afterwards, all is as before."""
        self.must("rm -rf /root/saved && mkdir /root/saved && cp -a /etc/postfix /etc/smilla /root/saved")
        self.must(_NEEDED.get(page, "true"))
        if page == "smilla-open.8":
            self._let_a_sealed_message_wait()
        try:
            yield
        finally:
            self.must(f"{_put_back('/root/saved/postfix')} && postfix reload")
            self.must("rm -rf /etc/smilla && cp -a /root/saved/smilla /etc")

    def _let_a_sealed_message_wait(self) -> None:
        self.must("postconf -e defer_transports=smilla && postfix reload && smilla config check --postfix")
        assert wait_until(lambda: "queued as" in self._try_to_seal(), 60)

    def _try_to_seal(self) -> str:
        reply = self.send("alice@example.net", "nobody@example.net", mark=b"sealed")
        self.sealed = queue_id(reply) or ""
        return reply

    def main_cf(self, block: Block, folder: str = "/etc/postfix") -> None:
        """Puts the lines of a block into main.cf, in the place of those that are there; a line that is there already
        stays, since a change of the file would void smilla's check."""
        for line in block.text.splitlines()[1:]:
            name, _, value = line.partition("=")
            if self.machine.run(f"postconf -c {folder} -h {name}").stdout.strip() != value.strip():
                self.must(f"postconf -c {folder} -e '{line}'")

    def master_cf(self, block: Block, folder: str = "/etc/postfix") -> None:
        """Puts the services of a block into master.cf, in the place of those that are there."""
        lines = block.text.splitlines()[1:]
        names = ["/".join(line.split()[:2]) for line in lines if not line.startswith(" ")]
        for name in names:
            self.machine.run(f"postconf -c {folder} -MX '{name}'")
        raw = "\n".join(lines).encode() + b"\n"
        assert self.machine.run(f"cat >>{folder}/master.cf", raw).returncode == 0

    def configure(self, before: str, after: str) -> None:
        """Changes a line of the configuration, and has smilla read it."""
        text = self.machine.read(CONFIGURATION)
        assert before in text
        self.machine.write(CONFIGURATION, text.replace(before, after))
        self.must("systemctl reload smilla")

    def send(self, *recipients: str, mark: bytes) -> str:
        """The reply to the end of a message of a user."""
        with self.machine.network(), SMTPClient(25) as client:
            to = ", ".join(recipients).encode()
            return str(client.send("me@example.org", list(recipients), b"X-Mark: %s\r\n" % mark + letter(to=to))[-1])

    def arrived(self, mark: bytes, count: int) -> list[ReceivedMail]:
        """What came of a message, by recipient, once there is as much of it."""

        def found() -> list[ReceivedMail]:
            return sorted((mail for mail in self.sink.messages if mark in mail.raw), key=lambda mail: mail.rcpt_to)

        assert wait_until(lambda: len(found()) >= count, 60), self.machine.read("/var/log/postfix.log")[-3000:]
        return found()

    def log(self) -> str:
        """What smilla logged."""
        return self.machine.read("/var/log/smilla.log")
