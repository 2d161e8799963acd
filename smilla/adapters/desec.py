"""deSEC's REST API (desec.readthedocs.io): the domain that holds a name, and one RRset of it replaced.

The API has no condition on what was there before, so a change that somebody makes at the same moment is not seen; what
was there is read first, and told.  A token goes into the Authorization header and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from smilla.adapters.https import Client, Response
from smilla.errors import FetchError, PublishError

BASE = "https://desec.io/api/v1"
_MOST_WORDS = 300
_KNOWN = {
    401: "the token is not valid (401)",
    403: "the token may not do this (403); see its policies",
    404: "there is no such domain in this account (404)",
    413: "the request is too large (413)",
}


class DeSEC:
    """An account, by its token."""

    def __init__(self, client: Client, token: str, base: str = BASE) -> None:
        self._client, self._base = client, base.rstrip("/")
        self._headers = {"Authorization": f"Token {token}", "Accept": "application/json"}

    def zone_of(self, owner: str) -> tuple[str, int]:
        """The account's domain that holds the name (absolute), and its least TTL in seconds.  Raises PublishError."""
        found = self._json("GET", "/domains/?" + urlencode({"owns_qname": owner.removesuffix(".")}))
        if not isinstance(found, list) or not found:
            raise PublishError(f"deSEC: no domain of this account holds {owner}", temporary=False)
        try:
            return f"{str(found[0]['name']).removesuffix('.')}.", int(found[0].get("minimum_ttl", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError("deSEC: its answer is not understood", temporary=False) from error

    def read(self, zone: str, owner: str, type_name: str) -> tuple[str, ...]:
        """The records in presentation form, none where there are none.  Raises PublishError."""
        place = f"{self._of_zone(zone)}{quote(subname(zone, owner))}/{type_name}/"
        response = self._request("GET", place)
        if response.status == 404:
            return ()
        found = self._read(response)
        records = found.get("records") if isinstance(found, dict) else None
        if not isinstance(records, list):
            raise PublishError("deSEC: its answer is not understood", temporary=False)
        return tuple(map(str, records))

    def replace(self, zone: str, owner: str, type_name: str, ttl_s: int, records: tuple[str, ...]) -> None:
        """The RRset becomes these records; without any it goes.  Raises PublishError."""
        wanted = [{"subname": subname(zone, owner), "type": type_name, "ttl": ttl_s, "records": list(records)}]
        self._json("PATCH", self._of_zone(zone), json.dumps(wanted).encode())

    @staticmethod
    def _of_zone(zone: str) -> str:
        return f"/domains/{quote(zone.removesuffix('.'))}/rrsets/"

    def _json(self, method: str, path: str, body: bytes | None = None) -> Any:
        return self._read(self._request(method, path, body))

    def _request(self, method: str, path: str, body: bytes | None = None) -> Response:
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        try:
            return self._client.request(method, self._base + path, headers, body)
        except FetchError as error:
            raise PublishError(f"deSEC: {error}", temporary=error.temporary) from error

    @staticmethod
    def _read(response: Response) -> Any:
        if not 200 <= response.status < 300:
            raise _refusal(response)
        try:
            return json.loads(response.body or b"null")
        except ValueError as error:
            raise PublishError("deSEC: its answer is no JSON", temporary=True) from error


def subname(zone: str, owner: str) -> str:
    """The owner name relative to the zone.  Raises PublishError."""
    if not owner.lower().endswith(f".{zone.lower()}"):
        raise PublishError(f"{owner} is not in the zone {zone}", temporary=False)
    return owner[: -len(zone) - 1]


def _refusal(response: Response) -> PublishError:
    status = response.status
    if status == 429:
        when = response.headers.get("retry-after", "")
        text = f"asks to wait {when} s (429)" if when.isdecimal() else "asks to wait (429)"
        return PublishError(f"deSEC: {text}", temporary=True)
    said = response.body[:_MOST_WORDS].decode("utf-8", "replace")
    words = _KNOWN.get(status, f"it answers {status}: {said}")
    return PublishError(f"deSEC: {words}", temporary=status >= 500)
