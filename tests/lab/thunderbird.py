"""Thunderbird without a screen, driven from outside, with a throw-away profile: what a person would see.

    Dovecot -> IMAP (loopback) -> Thunderbird (headless) -> Marionette -> the text on the screen, its state, a picture

The profile holds the person's keys and one IMAP account.  It looks up no name, and reaches no host but loopback: all
else goes to a proxy that is not there, and a connection to another host would end the program.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from tests.lab.keys import OpenPGPKey, SMIMEKey
from tests.lab.marionette import Marionette, MarionetteError
from tests.lab.processes import LOOPBACK, Child, ChildError, Server, wait_until
from tests.lab.programs import MissingProgramError, find_program, program_environment, unpacked_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.lab.dovecot import Dovecot

_PREFERENCES: dict[str, bool | int | str] = {
    "marionette.port": 0,
    # Off the network.
    "network.dns.disabled": True,
    "network.proxy.type": 1,
    "network.proxy.socks": LOOPBACK,
    "network.proxy.socks_port": 9,
    "network.proxy.no_proxies_on": LOOPBACK,
    "browser.region.network.url": "",
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "app.update.auto": False,
    "extensions.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    # Nothing between the person and the message.
    "app.donation.eoy.version.viewed": 999,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mail.shell.checkDefaultClient": False,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "mailnews.database.global.indexer.enabled": False,
    "mail.biff.show_tray_icon": False,
    "mail.dark-reader.enabled": False,
    "mail.openpgp.allow_external_gnupg": False,
    # The message below the list, as high as can be.
    "mail.pane_config.dynamic": 0,
    # One account.
    "mail.accountmanager.accounts": "account1",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.account.account1.server": "server1",
    "mail.account.account1.identities": "id1",
    "mail.identity.id1.fullName": "Reader",
    "mail.identity.id1.valid": True,
    "mail.server.server1.type": "imap",
    "mail.server.server1.hostname": LOOPBACK,
    "mail.server.server1.socketType": 0,
    "mail.server.server1.authMethod": 3,
    "mail.server.server1.check_new_mail": False,
    "mail.server.server1.login_at_startup": False,
    "mail.server.server1.use_idle": False,
    "mail.server.server1.using_subscription": False,
}

# The system's fonts may be none; those that came with the unpacked program are not where it looks for them.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{}</dir>
  <dir>{}</dir>
  <cachedir>{}/fonts</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""

_READY = """
    const window = Services.wm.getMostRecentWindow("mail:3pane");
    const pane = window?.document.getElementById("tabmail")?.currentAbout3Pane;
    return !!pane && pane.document.readyState == "complete" && !!pane.folderPane && !!pane.threadTree;
"""
_LOG_IN = """
    const [host, user, password] = arguments;
    const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
    login.init(`imap://${host}`, null, `imap://${host}`, user, password, "", "");
    await Services.logins.addLoginAsync(login);
"""
_IMPORT_OPENPGP = """
    const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
    const result = await RNP.importSecKeyBlockImpl(null, () => "", false, arguments[0], []);
    if (result.exitCode != 0 || !result.importedKeys.length) {
        throw new Error(`not imported: ${result.errorMsg}`);
    }
"""
_INBOX = """
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const { MailUtils } = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
    const window = Services.wm.getMostRecentWindow("mail:3pane");
    const tabs = window.document.getElementById("tabmail");
    const server = MailServices.accounts.getAccount("account1").incomingServer;
    const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
    const headers = inbox ? Array.from(inbox.messages) : [];
"""
_FETCH = """
    server.getNewMessages(inbox ?? server.rootFolder, window.msgWindow, null);
"""
_COUNT = """
    return headers.length;
"""
_UIDS = """
    return headers.map(header => header.messageKey).sort();
"""
_SELECT = """
    const wanted = headers.find(header => header.messageId == arguments[0]);
    if (!wanted) {
        return false;
    }
    const pane = tabs.currentAbout3Pane;
    if (pane.gFolder?.URI != inbox.URI) {
        pane.displayFolder(inbox.URI);
        return false;
    }
    const index = pane.gDBView?.findIndexOfMsgHdr(wanted, true) ?? -1;
    if (index == -1 || index == 0xffffffff) {
        return false;
    }
    pane.threadTree.scrollToIndex(index, true);
    pane.threadTree.selectedIndex = index;
    return tabs.currentAboutMessage?.gMessage?.messageId == arguments[0];
"""
_SHOWN = """
    const pane = tabs.currentAbout3Pane;
    const row = pane.threadTree.getRowAtIndex(pane.threadTree.selectedIndex);
    const page = tabs.currentAboutMessage;
    const find = id => page?.document.getElementById(id);
    const browser = page?.getMessagePaneBrowser?.();
    const state = icon => (!icon || icon.hidden ? "" : icon.src.match(/-([a-z]+)[.]svg$/)?.[1] ?? "");
    return {
        message_id: page?.gMessage?.messageId ?? "",
        subject: find("expandedsubjectBox")?.lastElementChild?.textContent ?? "",
        subject_in_list: row?.querySelector(".subject")?.textContent ?? "",
        text: browser?.contentDocument?.body?.innerText ?? browser?.contentTitle ?? "",
        notice: page?.gMessageNotificationBar?.msgNotificationBar.allNotifications
            .map(bar => bar.messageText?.textContent ?? "").join("\\n") ?? "",
        technology: find("cryptoBox")?.getAttribute("tech") ?? "",
        encrypted: state(find("encryptedHdrIcon")),
        status: page?.gEncryptionStatus ?? -1,
    };
"""
_SEND_LOG_IN = """
    const [host, user, password] = arguments;
    const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
    login.init(`smtp://${host}`, null, `smtp://${host}`, user, password, "", "");
    await Services.logins.addLoginAsync(login);
"""
_COMPOSE = """
    const [to, subject, text] = arguments;
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
    const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
    fields.to = to;
    fields.subject = subject;
    fields.body = text;
    params.composeFields = fields;
    params.format = Ci.nsIMsgCompFormat.PlainText;
    params.identity = MailServices.accounts.getAccount("account1").defaultIdentity;
    MailServices.compose.OpenComposeWindowWithParams(null, params);
"""
_COMPOSER = """
    const composer = Services.wm.getMostRecentWindow("msgcompose");
"""
_CAN_SEND = """
    const button = composer?.document.getElementById("button-send");
    return !!composer?.gMsgCompose && !!button && !composer.gSendLocked && composer.document.readyState == "complete";
"""
_PROTECT = """
    composer.gSelectedTechnologyIsPGP = arguments[0] == "OpenPGP";
    composer.gSendEncrypted = composer.gUserTouchedSendEncrypted = true;
    composer.gSendSigned = composer.gUserTouchedSendSigned = true;
"""
# What a person chooses in the account's settings, End-To-End Encryption.
_CHOOSE_CERTIFICATE = """
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const identity = MailServices.accounts.getAccount("account1").defaultIdentity;
    const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).getCerts();
    const own = certificates.find(one => one.getEmailAddresses().includes(identity.email));
    for (const use of ["signing", "encryption"]) {
        identity.setUnicharAttribute(`${use}_cert_name`, own.displayName);
        identity.setUnicharAttribute(`${use}_cert_dbkey`, own.dbKey);
    }
"""
_CHOOSE_OPENPGP = """
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
    const { PgpSqliteDb2 } = ChromeUtils.importESModule("chrome://openpgp/content/modules/sqliteDb.sys.mjs");
    const [key] = await RNP.getKeys();
    await PgpSqliteDb2.acceptAsPersonalKey(key.fpr);
    MailServices.accounts.getAccount("account1").defaultIdentity.setUnicharAttribute("openpgp_key_id", key.keyId);
"""
# Not within the script, which a dialog would hold up.
_SEND = """
    composer.setTimeout(() => composer.goDoCommand("cmd_sendNow"), 0);
"""
_DIALOGS = """
    return [...Services.wm.getEnumerator(null)].map(window => window.document)
        .filter(document => document.documentURI.includes("commonDialog"))
        .map(document => document.getElementById("infoBody")?.textContent ?? document.title);
"""
_HAS_SENT = """
    return !composer;
"""
_PAINTED = """
    const window = Services.wm.getMostRecentWindow("mail:3pane");
    await new Promise(done => window.requestAnimationFrame(() => window.requestAnimationFrame(done)));
"""


_NONE: Mapping[str, bool | int | str] = {}


@dataclass(frozen=True)
class Shown:
    """What stands on the screen.  ``text`` is that of the message, or the title of the page that stands in its place,
    and ``notice`` that of the bars above it; ``technology`` is S/MIME, OpenPGP or empty; ``encrypted`` is the state of
    the lock: ok, notok or, without a lock, empty; ``status`` is that of S/MIME (nsICMSMessageErrors): 0 is success, and
    -1 stands where nothing was S/MIME."""

    message_id: str
    subject: str
    subject_in_list: str
    text: str
    notice: str
    technology: str
    encrypted: str
    status: int


class Thunderbird(Server):
    """Starts with ``with`` or start(); ``keys`` are the private keys that the person has.  ``submission`` is the port
    of loopback to which it sends, with the person's name and password in the clear.  Without ``mail`` it gets none.
    ``preferences`` are further ones.  ``authority`` is a CA (PEM): without one it signs with no certificate."""

    def __init__(
        self,
        folder: Path,
        mail: Dovecot | None,
        user: str,
        password: str,
        keys: Sequence[SMIMEKey | OpenPGPKey],
        *,
        submission: int = 0,
        preferences: Mapping[str, bool | int | str] = _NONE,
        authority: Path | None = None,
    ) -> None:
        self.folder = folder
        self._mail = mail
        self._submission = submission
        self._own_preferences = preferences
        self._authority = authority
        self._user = user
        self._password = password
        self._keys = list(keys)
        self._driver: Marionette | None = None

    @property
    def driver(self) -> Marionette:
        """The connection to it."""
        if self._driver is None:
            raise RuntimeError("Thunderbird is not running")
        return self._driver

    def start(self, timeout_s: float = 120) -> Self:
        """Makes the profile, starts the program and gives it its keys; on a busy machine Thunderbird does not always
        start, so once more if need be.  Raises MissingProgramError, ChildError or MarionetteError."""
        try:
            self._start(self.folder / "profile", timeout_s)
        except (ChildError, MarionetteError, OSError) as error:
            print(f"Thunderbird, once more: {error}")
            self._start(self.folder / "second-profile", timeout_s)
        return self

    def _start(self, profile: Path, timeout_s: float) -> None:
        program = thunderbird()
        profile.mkdir(parents=True)
        (self.folder / "home").mkdir(exist_ok=True)
        fonts = (Path("/usr/share/fonts"), unpacked_folder() / "usr/share/fonts")
        (self.folder / "fonts.conf").write_text(_FONTS.format(*fonts, self.folder))
        self._write_preferences(profile)
        self._import_certificates(profile)
        options = ["--headless", "-no-remote", "-profile", str(profile), "-marionette", "-remote-allow-system-access"]
        self._child = Child(
            "thunderbird",
            [str(program), *options],
            self.folder / "thunderbird.log",
            environment=self._environment(program),
        )
        port = profile / "MarionetteActivePort"
        try:
            self._child.start(ready=lambda: port.exists() and port.read_text().isdigit(), timeout_s=timeout_s)
            self._driver = Marionette(int(port.read_text()), timeout_s)
            self._until(lambda: bool(self.driver.run(_READY)), timeout_s, "its window")
            self.driver.run(_LOG_IN, LOOPBACK, self._user, self._password)
            self.driver.run(_SEND_LOG_IN, LOOPBACK, self._user, self._password)
            for key in self._keys:
                if isinstance(key, OpenPGPKey):
                    self.driver.run(_IMPORT_OPENPGP, key.armoured_secret_key())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        super().stop()

    def fetch(self, count: int, timeout_s: float = 120) -> None:
        """Waits until it has the headers of this many messages of the inbox."""
        asked_at = -100.0

        def have_all() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > 3:
                asked_at = time.monotonic()
                self.driver.run(_INBOX + _FETCH)
            return bool(self.driver.run(_INBOX + _COUNT) >= count)

        self._until(have_all, timeout_s, f"{count} messages")

    def follow(self, uids: list[int], timeout_s: float = 120) -> None:
        """Waits until it has heard that the inbox holds these messages and no other."""
        asked_at = -100.0

        def have_these() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > 3:
                asked_at = time.monotonic()
                self.driver.run(_INBOX + _FETCH)
            return bool(self.driver.run(_INBOX + _UIDS) == uids)

        self._until(have_these, timeout_s, f"the messages {uids}")

    def show(self, message_id: str, expected: Callable[[Shown], bool], timeout_s: float = 60) -> Shown:
        """Selects a message and waits until what is shown is as expected, and stays so; otherwise gives what is shown
        at the end of the time, for state lags behind the selection.  Raises MarionetteError where there is no such
        message."""
        self._until(lambda: bool(self.driver.run(_INBOX + _SELECT, message_id)), timeout_s, f"<{message_id}>")
        seen: list[Shown] = []

        def settled() -> bool:
            seen.append(Shown(**self.driver.run(_INBOX + _SHOWN)))
            last = seen[-1]
            return seen[-3:] == [last] * 3 and last.message_id == message_id and expected(last)

        wait_until(settled, timeout_s, step_s=0.2)
        return seen[-1]

    def choose_keys(self) -> None:
        """The person's certificate and OpenPGP key become those of the account, to sign and to encrypt with."""
        for key in self._keys:
            self.driver.run(_CHOOSE_OPENPGP if isinstance(key, OpenPGPKey) else _CHOOSE_CERTIFICATE)

    def send(self, to: str, subject: str, text: str, timeout_s: float = 60, *, technology: str = "") -> None:
        """Writes a message as a person does, in a window of its own, and sends it; returns once the window is gone.
        ``technology``: S/MIME or OpenPGP signs and encrypts it.  Raises MarionetteError."""
        self.driver.run(_COMPOSE, to, subject, text)
        self._until(lambda: bool(self.driver.run(_COMPOSER + _CAN_SEND)), timeout_s, "a window to write in")
        if technology:
            self.driver.run(_COMPOSER + _PROTECT, technology)
        self.driver.run(_COMPOSER + _SEND)
        self._until(lambda: bool(self.driver.run(_COMPOSER + _HAS_SENT)), timeout_s, "that it has sent")

    def picture(self, path: Path) -> None:
        """Writes a picture of the window (PNG), once it does not change any more."""
        path.parent.mkdir(parents=True, exist_ok=True)
        taken: list[bytes] = []

        def still() -> bool:
            self.driver.run(_PAINTED)
            taken.append(self.driver.picture())
            return taken[-2:] == [taken[-1]] * 2

        wait_until(still, 10, step_s=0.3)
        path.write_bytes(taken[-1])

    def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        if not wait_until(condition, timeout_s, step_s=0.2):
            asks = f"; it asks: {asked}" if (asked := self.driver.run(_DIALOGS)) else ""
            raise MarionetteError(f"Thunderbird did not show {what} within {timeout_s:g} s{asks}")

    def _write_preferences(self, profile: Path) -> None:
        preferences = {
            **_PREFERENCES,
            "mail.identity.id1.useremail": f"{self._user}@home.test",
            "mail.server.server1.name": f"{self._user}@home.test",
            "mail.server.server1.userName": self._user,
            "mail.server.server1.port": self._mail.port if self._mail is not None else 9,
        }
        if self._submission:
            preferences |= {
                "mail.smtpservers": "smtp1",
                "mail.smtp.defaultserver": "smtp1",
                "mail.identity.id1.smtpServer": "smtp1",
                "mail.identity.id1.fcc": False,
                "mail.smtpserver.smtp1.hostname": LOOPBACK,
                "mail.smtpserver.smtp1.port": self._submission,
                "mail.smtpserver.smtp1.authMethod": 3,
                "mail.smtpserver.smtp1.try_ssl": 0,
                "mail.smtpserver.smtp1.username": self._user,
            }
        preferences |= self._own_preferences
        lines = [f"user_pref({_script(name)}, {_script(value)});\n" for name, value in preferences.items()]
        (profile / "user.js").write_text("".join(lines))

    def _import_certificates(self, profile: Path) -> None:
        database = f"sql:{profile}"
        _run("certutil", "-N", "-d", database, "--empty-password")
        if self._authority is not None:
            _run("certutil", "-A", "-n", "authority", "-t", ",C,", "-i", str(self._authority), "-d", database)
        for number, key in enumerate(key for key in self._keys if isinstance(key, SMIMEKey)):
            bundle = self.folder / f"{number}.p12"
            bundle.write_bytes(_pkcs12(key))
            _run("pk12util", "-i", str(bundle), "-d", database, "-W", "moved", "-K", "")

    def _environment(self, program: Path) -> dict[str, str]:
        screen = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")
        environment = {name: value for name, value in program_environment(program).items() if name not in screen}
        return {
            **environment,
            "HOME": str(self.folder / "home"),
            "FONTCONFIG_FILE": str(self.folder / "fonts.conf"),
            "MOZ_DISABLE_NONLOCAL_CONNECTIONS": "1",
            "MOZ_CRASHREPORTER_DISABLE": "1",
            "TZ": "UTC",
        }


def thunderbird() -> Path:
    """The program itself, not the script in /usr/bin.  Raises MissingProgramError."""
    for root in (unpacked_folder(), Path("/")):
        program = root / "usr/lib/thunderbird/thunderbird"
        if os.access(program, os.X_OK):
            return program
    raise MissingProgramError("thunderbird")


def _pkcs12(key: SMIMEKey) -> bytes:
    private = load_pem_private_key(key.key_file.read_bytes(), None)
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(f"not a key for S/MIME: {private!r}")
    certificate = x509.load_der_x509_certificate(key.raw_certificate)
    name = key.address.encode()
    return pkcs12.serialize_key_and_certificates(name, private, certificate, None, BestAvailableEncryption(b"moved"))


def _run(program: str, *arguments: str) -> None:
    path = find_program(program)
    environment = program_environment(path)
    result = subprocess.run([path, *arguments], env=environment, check=False, capture_output=True)
    if result.returncode != 0:
        said = (result.stdout + result.stderr).decode(errors="replace")
        raise RuntimeError(f"{program} {' '.join(arguments)}: {said}")


def _script(value: bool | int | str) -> str:
    """A value as JavaScript."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
