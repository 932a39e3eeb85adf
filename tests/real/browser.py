"""A real Chromium driven over its DevTools pipe (descriptors 3 and 4, JSON ended by NUL): no port and no library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from processes import program

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """One page. `goto`, `run` JavaScript, `wait` for an expression to be true, `screenshot`."""

    def __init__(
        self, width: int = 1400, height: int = 1000, dark: bool = False, flags: tuple[str, ...] = (), inside: tuple[str, ...] = ()
    ) -> None:
        self.profile = tempfile.mkdtemp(prefix="fairlead-chromium-")
        to_read, self.out = os.pipe()
        self.into, to_write = os.pipe()
        given = [f"--user-data-dir={self.profile}", f"--window-size={width},{height}", *flags]
        command = f'exec 3<&{to_read} 4>&{to_write}; exec "$0" "$@"'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, *inside, program("chromium"), *FLAGS, *given, "about:blank"],
            pass_fds=(to_read, to_write), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session: str | None = None
        self.errors: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        if dark:
            self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, seconds: float = 60, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.note(answer)

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.buffer:
            assert select.select([self.into], [], [], max(0, deadline - time.monotonic()))[0], "Chromium says nothing"
            more = os.read(self.into, 1 << 20)
            assert more, "Chromium is gone"
            self.buffer += more
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def note(self, event: dict[str, Any]) -> None:
        """Keep what the page complained about."""
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def goto(self, url: str) -> None:
        """Open a page."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"!!({script})")):
            assert time.monotonic() < deadline, f"never true: {script}; page errors: {self.errors[:3]}"
            time.sleep(0.05)
        return value

    def screenshot(self, file: Path | str) -> None:
        """The visible part as a PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End Chromium and all it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.out)
        os.close(self.into)
        shutil.rmtree(self.profile, ignore_errors=True)
