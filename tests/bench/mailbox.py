"""A whole mailbox there and back: ``smilla mailbox encrypt`` and then ``decrypt``, killed now and then.

    python -m tests.bench.mailbox [--in imap|maildir|mbox] [--messages N] [--kills N] [--format smime|openpgp]
                                  [--json FILE]

N letters of mixed kinds, 1 to 40 KB, with flags, keywords and dates, lie in a Dovecot of the laboratory, a Maildir or
an mbox.  Each run is killed with SIGKILL so many times, at random moments of its work, and started again at once.  At
the end every message must be there once, with all its octets, its flags and its date; between, none of the N may be
readable.  Prints how long it took, and how much memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.mailbox_boxes import CANARY, OWNER, Box, ImapBox, Letter, MaildirBox, MboxFile, letter, signs_of
from tests.lab.dovecot import Dovecot
from tests.lab.keys import OpenPGPKey, SMIMEKey, make_openpgp_key, make_smime_key

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 500
# About what is to be expected; so the kills come in all parts of a run.
_MS_A_MESSAGE = 5.0


def main() -> int:
    """Exit 0 if every message came back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--in", dest="where", choices=("imap", "maildir", "mbox"), default="imap")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--format", choices=("smime", "openpgp"), default="smime")
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smilla-bench-"))
    folder.chmod(0o755)
    try:
        with contextlib.ExitStack() as stack:
            key: SMIMEKey | OpenPGPKey
            if options.format == "smime":
                key = make_smime_key(folder, OWNER)
            else:
                key = stack.enter_context(make_openpgp_key(folder, OWNER))
            return _Bench(folder, _box(options.where, folder, stack), key, options).run()
    finally:
        shutil.rmtree(folder)


def _box(where: str, folder: Path, stack: contextlib.ExitStack) -> Box:
    if where == "imap":
        return ImapBox(folder, stack.enter_context(Dovecot(folder / "dovecot")))
    return MaildirBox(folder) if where == "maildir" else MboxFile(folder)


class _Bench:
    def __init__(self, folder: Path, box: Box, key: SMIMEKey | OpenPGPKey, options: argparse.Namespace) -> None:
        self._folder, self._box, self._key, self._options = folder, box, key, options
        self._random = random.Random(1)
        self._found: dict[str, Any] = {"in": options.where, "messages": options.messages, "format": options.format}

    def run(self) -> int:
        began = time.monotonic()
        put = Counter(signs_of(letter) for letter in self._filled())
        self._say("fill_s", round(time.monotonic() - began, 1))
        if Counter(map(signs_of, self._box.letters())) != put:
            raise AssertionError("the mailbox does not give what it was given")
        self._turn("encrypt", self._encrypting())
        readable = count = 0
        for found in self._box.letters():
            readable += CANARY in found.raw
            count += 1
        self._say("after_encrypt", {"messages": count, "readable": readable})
        self._turn("decrypt", self._decrypting())
        back = Counter(map(signs_of, self._box.letters()))
        lost, more = put - back, back - put
        self._say("after_decrypt", {"messages": back.total(), "lost": lost.total(), "more": more.total()})
        if self._options.json:
            Path(self._options.json).write_text(json.dumps(self._found, indent=2) + "\n")
        is_good = not lost and not more and readable == 0 and count == self._options.messages
        print("good" if is_good else "NOT GOOD")
        return 0 if is_good else 1

    def _filled(self) -> Iterator[Letter]:
        for first in range(0, self._options.messages, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, self._options.messages))
            some = [letter(number, self._random) for number in numbers]
            self._box.put(some)
            yield from some

    def _say(self, what: str, value: object) -> None:
        self._found[what] = value
        print(f"{what}: {value}", flush=True)

    # --- the command

    def _turn(self, action: str, words: list[str]) -> None:
        """Runs it to its end."""
        command = [sys.executable, "-m", "smilla", "mailbox", action, *words, *self._box.options, "--json", "--quiet"]
        if not isinstance(self._box, MboxFile):
            command += ["--journal", str(self._folder / f"{action}.sqlite")]
        whole_s = _MS_A_MESSAGE / 1000 * self._options.messages
        longest_s = 2 * whole_s / max(1, self._options.kills)
        began, peak_kib, kills = time.monotonic(), 0, 0
        while True:
            since_ns = time.time_ns()
            child = subprocess.Popen(command, stdout=subprocess.PIPE)
            if kills < self._options.kills:
                while child.poll() is None and not self._has_begun(action, since_ns):
                    time.sleep(0.01)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(self._random.uniform(0, longest_s))
                if child.poll() is None:
                    child.kill()
                    child.communicate()
                    kills += 1
                    continue
            out, _ = child.communicate()
            peak_kib = max(peak_kib, _peak_kib())
            break
        told = json.loads(out)["folders"]
        taken_s = time.monotonic() - began
        self._say(
            action,
            {
                "exit": child.returncode,
                "told": told,
                "kills": kills,
                "taken_s": round(taken_s, 1),
                "ms_a_message": round(1000 * taken_s / self._options.messages, 2),
                "peak_mib": round(peak_kib / 1024),
            },
        )

    def _has_begun(self, action: str, since_ns: int) -> bool:
        """Has it noted something in its journal, or begun to write the new mbox?"""
        written = [*self._folder.glob(f"{action}.sqlite-wal"), *self._folder.glob("*mbox?*")]
        for path in written:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime_ns > since_ns:
                    return True
        return False

    def _encrypting(self) -> list[str]:
        keys = self._folder / "keys"
        keys.mkdir()
        if isinstance(self._key, OpenPGPKey):
            (keys / f"{OWNER}.pgp").write_bytes(self._key.raw)
        else:
            (keys / f"{OWNER}.crt").write_bytes(self._key.certificate_file.read_bytes())
        config = self._folder / "smilla.toml"
        config.write_text(
            f"mode = 'inbound'\nlocal_domains = ['home.test']\n[keys]\nsources = ['directory']\ndirectory = '{keys}'\n"
        )
        return ["--config", str(config), "--address", OWNER]

    def _decrypting(self) -> list[str]:
        if isinstance(self._key, OpenPGPKey):
            secret = self._folder / "secret.asc"
            secret.write_text(self._key.armoured_secret_key())
            return ["--key", str(secret)]
        pair = self._folder / "pair.pem"
        pair.write_bytes(self._key.key_file.read_bytes() + self._key.certificate_file.read_bytes())
        return ["--key", str(pair)]


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
