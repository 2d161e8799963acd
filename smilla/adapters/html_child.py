"""Takes out of HTML whatever a program would load or follow, by nh3; by itself a process that ``html_cleaner`` starts.

Arguments: the octets of memory and the seconds of computing that it may take, and the folder where nh3 is.  Standard
input and output: the text in UTF-8.  Exit: 0, or there was too much of it.  It imports nothing of smilla, since its
start is part of a message's time.
"""

from __future__ import annotations

import resource
import sys

_ATTRIBUTES = {
    "*": {"align", "dir", "lang", "title"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "ol": {"start"},
}
_WITHOUT_CONTENT = {"script", "style", "title", "template", "noscript"}


def cleaned(text: str) -> str:
    """The HTML without links, scripts, styles, and pictures but those of the message itself (cid:).

    Time grows with the square of the text at worst: "<div>" over and over takes 3 seconds for 256 KiB, and half an hour
    for 6 MiB.
    """
    import nh3  # noqa: PLC0415 - it need not be installed

    return nh3.clean(
        text,
        attributes=_ATTRIBUTES,
        attribute_filter=_of_the_message,
        clean_content_tags=_WITHOUT_CONTENT,
        link_rel=None,
        url_schemes={"cid"},
    )


def _of_the_message(_tag: str, attribute: str, value: str) -> str | None:
    """Nothing is loaded but parts of the message itself."""
    return value if attribute != "src" or value.lower().startswith("cid:") else None


def _main() -> int:
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    for limit, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    sys.path.insert(0, sys.argv[3])
    sys.stdout.buffer.write(cleaned(sys.stdin.buffer.read().decode()).encode())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
