"""A real browser, driven over the pipe of its DevTools protocol with the standard library alone."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --remote-debugging-pipe"
).split()


def find() -> str | None:
    """Return the browser's path, or ``None`` where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """Chromium with a new, empty profile, and one page. Ends with the ``with`` block."""

    def __init__(self, profile: Path) -> None:
        path = find()
        assert path is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The protocol is on descriptors 3 and 4; the shell puts them there.
        words = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", words, "bash", path, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._next = 0
        self._session: str | None = None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for name in ("Page", "Runtime", "Network", "Log", "Security"):
            self.call(f"{name}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._to)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def call(self, method: str, **params: object) -> dict:
        """Ask the browser for something; what happens meanwhile goes to ``events``."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            told = self._receive()
            if told.get("id") == self._next:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            self.events.append(told)

    def open(self, page: Path, *, fragment: str = "", is_settled: bool = True) -> None:
        """Show a file, and wait until it is there, and painted where *is_settled*."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri() + fragment)
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._receive())
        if is_settled:
            self.settle()

    def settle(self) -> None:
        """Wait until the page has been painted twice."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> object:
        """Return what *script* is worth in the page."""
        told = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str) -> object:
        """Wait until *script* is worth something, and return that."""
        for _ in range(600):
            found = self.run(script)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key where the focus is."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, ord(key[0]))
        said: dict[str, object] = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 * shift,
        }
        if len(key) == 1 or key == "Enter":
            said["text"] = "\r" if key == "Enter" else key
        self.call("Input.dispatchKeyEvent", type="keyDown", **said)
        said.pop("text", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", **said)

    def type(self, text: str) -> None:
        """Type *text* where the focus is."""
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Make the window so large."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )

    def prefer(self, scheme: str) -> None:
        """Let the reader prefer ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        told = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))

    def complaints(self) -> list[str]:
        """Return errors and warnings of the page so far: broken policy, failed scripts."""
        found = []
        for each in self.events:
            if each.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(each["params"]["exceptionDetails"]))
            elif each.get("method") == "Log.entryAdded":
                found.append(each["params"]["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Return every address that the page asked for."""
        return [
            each["params"]["request"]["url"]
            for each in self.events
            if each.get("method") == "Network.requestWillBeSent"
        ]

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._to, data) :]

    def _receive(self) -> dict:
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], 30)[0], "the browser says nothing"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
