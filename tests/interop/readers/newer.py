"""The programs of Debian 13: those that tests/setup/debian13 unpacks beside this machine's, or, on Debian 13 and newer,
this machine's own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from platform import freedesktop_os_release
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.serialization import load_der_private_key

from smilla.formats import der
from tests.interop.owners import Owner
from tests.interop.readers.base import ROOT, Command, Reader, upstream
from tests.interop.readers.bridged import BouncyCastle, PGPainless
from tests.interop.readers.pgp_programs import GnuPG, GoSOP, Sq, Sqop, TheRNP
from tests.interop.readers.smime_programs import NSS, GpgSM, OpenSSL

_UNPACKED = ROOT / ".cache/debian13"


def _are_this_machine_s() -> bool:
    """As tests/setup/debian13 decides it.  Debian's testing and unstable have no number."""
    release = freedesktop_os_release()
    return release.get("ID") == "debian" and int(release.get("VERSION_ID", "99")) >= 13


THIS_MACHINE_S = _are_this_machine_s()
_JARS = Path("/usr/share/java") if THIS_MACHINE_S else _UNPACKED / "usr/share/java"


@cache
def _prefix() -> Command:
    """Debian 13's own dynamic linker, since its programs need a newer libc."""
    libraries = next((_UNPACKED / "usr/lib").glob("*-linux-gnu*"))
    linker = next(libraries.glob("ld-linux*.so.*"))
    return [linker, "--library-path", libraries]


class _Newer(Reader):
    @classmethod
    def missing(cls) -> list[str]:
        if THIS_MACHINE_S:
            return super().missing()
        return [] if (_UNPACKED / "VERSIONS").exists() else ["the programs of Debian 13 (tests/setup/debian13)"]

    @staticmethod
    def program(name: str) -> Command:
        return [name] if THIS_MACHINE_S else [*_prefix(), _UNPACKED / "usr/bin" / name]

    @staticmethod
    def package_version(package: str) -> str:
        if THIS_MACHINE_S:
            return Reader.package_version(package)
        for line in (_UNPACKED / "VERSIONS").read_text("utf-8").splitlines():
            name, _, rest = unquote(line.removeprefix("./")).partition("_")
            if name == package:
                return upstream(rest.partition("_")[0])
        return "?"


class _WithAgent(_Newer):
    """gpg and gpgsm start an agent, which has to be their own."""

    def program(self, name: str) -> Command:  # type: ignore[override]  # it needs the folder
        if THIS_MACHINE_S:
            return [name]
        agent = self.folder / "agent"
        if not agent.exists():
            words = " ".join(f"'{word}'" for word in super().program("gpg-agent"))
            agent.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            agent.chmod(0o700)
        return [*super().program(name), "--agent-program", agent]


class OpenSSL13(_Newer, OpenSSL):
    name = "OpenSSL/13"


class GpgSM13(_WithAgent, GpgSM):
    name = "gpgsm/13"


class NSS13(_Newer, NSS):
    name = "NSS/13"


class GnuPG13(_WithAgent, GnuPG):
    name = "gpg/13"


class RNP13(_Newer, TheRNP):
    name = "rnp/13"


class Sq13(_Newer, Sq):
    name = "sq/13"


class Sqop13(_Newer, Sqop):
    name = "sqop/13"


class GoSOP13(_Newer, GoSOP):
    name = "gosop/13"

    def shown(self, content: bytes) -> bytes:
        """This version prints octets."""
        return content


class BouncyCastle13(_Newer, BouncyCastle):
    name = "BouncyCastle/13"
    jars = _JARS

    def open(self, message: bytes, owner: Owner) -> bytes:
        return super().open(message, replace(owner, secret=_bare_seed(owner)))


def _bare_seed(owner: Owner) -> bytes:
    """PKCS #8 as BouncyCastle 1.80 reads it: the seed of ML-KEM as it was before RFC 9935 put a tag around it."""
    private = load_der_private_key(owner.secret, None)
    if not isinstance(private, (mlkem.MLKEM768PrivateKey, mlkem.MLKEM1024PrivateKey)):
        return owner.secret
    version, algorithm, *_ = der.read(owner.secret).children()
    return der.sequence(version.whole, algorithm.whole, der.octet_string(private.private_bytes_raw()))


class PGPainless13(_Newer, PGPainless):
    name = "PGPainless/13"
    jars = _JARS
