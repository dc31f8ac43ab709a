"""A real browser without a window, driven over a pipe in Chromium's own protocol; no package is needed for it."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

#: Names under which Chromium and its kin are installed.
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
#: Longest wait for an answer [s]; a machine that does many things at once is slow.
_PATIENCE = 120.0


def installed() -> str | None:
    """Return the browser on the path, None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser with one page; use it in a ``with`` block.

    Attributes:
        messages: What the page has said since it was opened: errors, warnings, exceptions and refusals.
        requests: Addresses that it has asked for, but for those of data.
    """

    def __init__(self, profile: Path) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self._profile = profile
        self._n = 0
        self._session: str | None = None
        self._rest = b""

    def __enter__(self) -> Browser:
        path = installed()
        assert path is not None
        to_browser, mine = os.pipe()
        theirs, from_browser = os.pipe()

        def join_pipes() -> None:
            # Chromium reads from descriptor 3 and writes to 4; copies first, so that none overwrites the other.
            ins, outs = os.dup(to_browser), os.dup(from_browser)
            os.dup2(ins, 3)
            os.dup2(outs, 4)

        self._process = subprocess.Popen(
            [path, *_OPTIONS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=join_pipes,
            close_fds=False,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._write, self._read = mine, theirs
        targets = self._ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._session = None
            self._ask("Browser.close")
            self._process.wait(30)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Open a file as a reader with such a window and such colours would see it."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._ask("Page.navigate", url="about:blank")
        self.messages.clear()
        self.requests.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        self._until("document.readyState === 'complete' && location.protocol === 'file:'")
        self.value(
            "Promise.allSettled([...document.images].filter(i => i.offsetParent).map(i => i.decode())).then(() => 1)"
        )
        self.requests = [url for url in self.requests if not url.startswith(("data:", "about:", path.as_uri()))]

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to on the page."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        found = self._ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _until(self, condition: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not self.value(condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.02)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._n += 1
        message: dict[str, Any] = {"id": self._n, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._n:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self._hear(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "the browser does not answer"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser has gone"
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))

    def _hear(self, event: dict[str, Any]) -> None:
        kind, said = event.get("method"), event.get("params", {})
        if kind == "Log.entryAdded":
            self.messages.append(said["entry"]["text"])
        elif kind == "Runtime.consoleAPICalled":
            self.messages.append(str(said["args"]))
        elif kind == "Runtime.exceptionThrown":
            self.messages.append(str(said["exceptionDetails"]))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
