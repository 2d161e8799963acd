"""The option of the stores that several machines may share."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import option


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """[store]: where learned keys and MTA-STS policies are remembered; see smilla-store(7)."""

    url: str = option(
        "",
        "A PostgreSQL database, such as postgresql:///smilla?host=/run/postgresql. Over a network, it must be verified "
        "(sslmode=verify-full and sslrootcert). A password stands in a file (passfile), never here. Several "
        "machines may share it. Needs a further package: pip install smilla[postgres]; the Debian package has it. "
        "Empty: files in spool of [reinject].",
        check="database",
    )
