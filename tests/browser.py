"""A headless Chromium to look at pages with, driven over a pipe: nothing to install but the browser."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
    "--remote-debugging-pipe",
)
#: Virtual key code, and what the key types.
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}


class Tab:
    """One page. errors: complaints of its console, scripts and content policy. requests: URLs it asked for."""

    def __init__(self, to_browser: int, from_browser: int, patience: float = 60.0) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._out, self._in, self._patience = to_browser, from_browser, patience
        self._rest, self._number, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path) -> None:
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"].get("description", expression))
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Raises AssertionError: it does not come true."""
        end = time.monotonic() + self._patience
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}; the console says {self.errors}"
            time.sleep(0.1)

    def press(self, key: str) -> None:
        """A key as a person presses it: "Tab", "Enter"."""
        code, text = _KEYS[key]
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", **down, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse there. x, y: pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._listen(answer)
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def _listen(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.errors.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.errors.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], self._patience)
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._rest += part
        first, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(first))


@contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """profile: an empty folder."""
    its_in, ours_out = os.pipe()
    ours_in, its_out = os.pipe()
    # A browser with a debugging pipe reads from descriptor 3 and writes to 4, whatever they are called here.
    command = f'exec "$@" 3<&{its_in} 4>&{its_out}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", BROWSER, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(its_in, its_out),
        stderr=subprocess.DEVNULL,
    )
    os.close(its_in)
    os.close(its_out)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.kill()
        process.wait()
