"""Messages of other people's test suites through a format, each opened by two programs, octet for octet.

``make interop`` prints the counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.interop.corpus import FOLDER, Sample, samples
from tests.interop.matrix import RESULTS
from tests.interop.owners import Owner, owner, publish
from tests.interop.readers import ALL_OPENPGP, ALL_SMIME, Reader, Unopened
from tests.interop.sending import Refused, Written, encrypt, inside, outside
from tests.lab.programs import require_nothing_missing

AT_LEAST = 300
OWNERS = {"smime": "rsa2048", "openpgp": "cv25519"}
READERS = {"smime": ("OpenSSL", "BouncyCastle"), "openpgp": ("gpg", "RNP of Thunderbird")}


def two_readers(format_: str, folder: Path) -> list[Reader]:
    kinds = [kind for kind in (*ALL_SMIME, *ALL_OPENPGP) if kind.name in READERS[format_]]
    require_nothing_missing([name for kind in kinds for name in kind.missing()])
    made: list[Reader] = []
    for kind in kinds:
        (folder / str(len(made))).mkdir(mode=0o700)
        made.append(kind(folder / str(len(made))))
    return made


def judge(format_: str, folder: Path) -> None:
    """Takes every message through a format.  Fails where one differs, or where there are too few."""
    require_nothing_missing([] if (FOLDER / "VERSIONS").exists() else ["the corpus (tests/setup/corpus)"])
    corpus, recipient, readers = samples(), owner(format_, OWNERS[format_]), two_readers(format_, folder)
    (folder / "keys").mkdir()
    publish(folder / "keys", recipient)
    fates: Counter[str] = Counter()
    faults: list[str] = []
    try:
        for sample in corpus:
            fate, problems = outcome(sample, recipient, readers, folder / "keys")
            fates[fate] += 1
            faults += [f"{sample.name}: {problem}" for problem in problems]
        report(format_, corpus, fates, readers, faults)
    finally:
        for reader in readers:
            reader.close()
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:20]])
    assert fates["encrypted"] >= AT_LEAST


def outcome(sample: Sample, recipient: Owner, readers: list[Reader], keys: Path) -> tuple[str, list[str]]:
    """What became of a message, and what is wrong about it."""
    try:
        (written,) = encrypt(sample.octets, [recipient.address], keys)
    except Refused as refused:
        return f"refused with {refused}", []
    if written.format == "unchanged":
        return "encrypted already, unchanged", [] if written.octets == sample.octets else ["changed"]
    if written.format != recipient.format:
        return written.format, [f"became {written.format}"]
    return "encrypted", list(differences(sample, written, recipient, readers))


def differences(sample: Sample, written: Written, recipient: Owner, readers: list[Reader]) -> Iterator[str]:
    if not written.octets.startswith(outside(sample.octets)):
        yield "the fields outside differ"
    wanted = inside(sample.octets)
    for reader in readers:
        try:
            found = reader.open(written.octets, recipient)
        except (Unopened, AssertionError) as error:
            yield f"{reader.name}: {error}"
            continue
        if found != wanted:
            at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(found))
            yield f"{reader.name} differs at {at}: {found[at : at + 40]!r}, not {wanted[at : at + 40]!r}"


def report(format_: str, corpus: list[Sample], fates: Counter[str], readers: list[Reader], faults: list[str]) -> None:
    suites = Counter(sample.suite for sample in corpus)
    programs = " and ".join(f"{reader.name} {reader.version()}" for reader in readers)
    lines = [
        f"corpus, {format_}: {len(corpus)} messages ({', '.join(f'{suite} {n}' for suite, n in suites.items())})",
        f"  {'; '.join(f'{fate}: {n}' for fate, n in fates.most_common())}",
        f"  opened by {programs}; {len(faults)} faults, differing octets included",
        "",
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"corpus-{format_}.txt").write_text("\n".join(lines), "utf-8")
