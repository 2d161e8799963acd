"""A survey as one HTML file: plots, tables, and every domain by name.

Promises: the file needs nothing from anywhere else and runs no script; its own policy (CSP) forbids both, so that text
from a stranger's DNS could do nothing even if the escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from smilla import __version__
from smilla.answer.describe import printable
from smilla.survey import plots, totals, words
from smilla.survey.found import Found, Way


def html(all_found: Sequence[Found]) -> str:
    """The whole file."""
    templates = Environment(
        loader=PackageLoader("smilla.survey"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters["printable"] = printable
    style = templates.get_template("report.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    by_name = sorted(all_found, key=lambda one: (one.domain, one.asked))
    marked = [(f"d{number}", one) for number, one in enumerate(by_name)]
    return templates.get_template("report.html").render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        version=__version__,
        days=sorted({one.at[:10] for one in all_found}),
        count=len(all_found),
        tables=[(table, plots.plot(table)) for table in totals.tables(all_found)],
        ways=[(way, of) for way in Way if (of := [(mark, one) for mark, one in marked if one.way is way])],
        share=plots.share_of,
        columns=totals.COLUMNS,
        rows=[(mark, one, totals.cells(one)) for mark, one in marked],
        details=[(mark, one, [printable(text) for text in words.in_full(one)][1:]) for mark, one in marked],
    )
