"""A real browser (Debian's Chromium, without a window), driven over its DevTools pipe: JSON, and a NUL after each."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE_S = 60.0
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


class BrowserError(Exception):
    """The browser has gone, or says that something cannot be done."""


class Browser:
    """One page; ``complaints`` are what its console said: errors of the page, and what its policy kept out."""

    def __init__(self) -> None:
        if PROGRAM is None:
            raise BrowserError("chromium is not installed")
        self._folder = tempfile.mkdtemp(prefix="smilla-browser-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4.
        shell = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        options += ["--disable-background-networking", f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "browser", PROGRAM, *options],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        [target] = [each for each in self._do("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        self._session = self._do("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._do(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._folder, ignore_errors=True)

    def go(self, url: str) -> None:
        """Loads a page, and waits for it."""
        self._do("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self._do("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until the expression is true; while a page changes to the next, it is not."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._holds(script):
            if time.monotonic() > deadline:
                raise BrowserError(f"never true: {script}; the page says: {self.text()[:500]}")
            time.sleep(0.02)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.run(f"!!({script})"))
        except BrowserError as error:
            if "navigated or closed" in str(error) or "context" in str(error):  # the page that was asked has gone
                return False
            raise

    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def look(self, *, width: int = 1100, dark: bool = False) -> None:
        """Sets the width of the window in CSS pixels, and whether the system is dark."""
        self._do("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        self._do("Emulation.setScrollbarsHidden", hidden=True)  # its place would be missing in a picture
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        raw = self._do("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(raw))

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(event["params"]["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(event["params"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            block = os.read(self._in, 1 << 16)
            if not block:
                raise BrowserError("the browser has ended")
            self._buffer += block
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(raw))
