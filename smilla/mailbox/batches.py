"""How many messages take each step together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from smilla.mailbox.store import Folder

_AT_ONCE, _OCTETS_AT_ONCE = 250, 8 << 20


def batches(folder: Folder, names: Sequence[str], alone: Collection[str] = ()) -> Iterator[list[str]]:
    """So many messages, and octets, at once; a large message comes alone, and so does each of ``alone``."""
    for first in range(0, len(names), _AT_ONCE):
        batch: list[str] = []
        octets = 0
        some = names[first : first + _AT_ONCE]
        sizes = folder.sizes(some)
        for name in some:
            is_full = octets + sizes.get(name, 0) > _OCTETS_AT_ONCE
            if batch and (is_full or name in alone or batch[-1] in alone):
                yield batch
                batch, octets = [], 0
            batch.append(name)
            octets += sizes.get(name, 0)
        yield batch
