"""A client of Marionette, the protocol by which a Mozilla program is driven from outside.

A packet is its length in decimal, a colon and JSON: ``[0, number, command, parameters]`` one way and
``[1, number, error, result]`` the other (Firefox source documentation, "Marionette", "Protocol").
"""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

from tests.lab.processes import LOOPBACK, Closing

if TYPE_CHECKING:
    pass


class MarionetteError(Exception):
    """The driven program could not do what it was told; the text is its own."""


class Marionette(Closing):
    """One session, in the context of the program's own windows ("chrome")."""

    def __init__(self, port: int, timeout_s: float = 120) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=timeout_s)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._read()
        self._command("WebDriver:NewSession", {})
        self._command("WebDriver:SetTimeouts", {"script": int(timeout_s * 1000)})
        self._command("Marionette:SetContext", {"value": "chrome"})

    def run(self, script: str, *arguments: object) -> Any:
        """Runs the body of an async function, whose ``arguments`` these are, and gives what it returns.  Raises
        MarionetteError."""
        wrapped = (
            "const [done] = Array.from(arguments).slice(-1); const given = Array.from(arguments).slice(0, -1);"
            f"(async function() {{ {script} }}).apply(null, given)"
            ".then(value => done({value}), error => done({error: `${error} ${error?.stack}`}));"
        )
        result = self._command("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": list(arguments)})["value"]
        if "error" in result:
            raise MarionetteError(result["error"])
        return result.get("value")

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._command("WebDriver:TakeScreenshot", {"full": False})["value"])

    def close(self) -> None:
        """Closes the connection; the program runs on."""
        self._stream.close()
        self._socket.close()

    def _command(self, name: str, parameters: dict[str, object]) -> dict[str, Any]:
        self._number += 1
        packet = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(packet), packet))
        _, number, error, result = self._read()
        if error is not None or number != self._number:
            raise MarionetteError(f"{name}: {error}")
        return result if isinstance(result, dict) else {"value": result}

    def _read(self) -> Any:
        length = b""
        while (octet := self._stream.read(1)) != b":":
            if not octet:
                raise MarionetteError("the program closed the connection")
            length += octet
        return json.loads(self._stream.read(int(length)))
