"""Starting programs that we did not write, and ours, so that none of them outlives its test.

Rules: every program gets a folder of its own with a short path (a unix socket's path has 107 bytes), a port that was
free a moment ago, its own session, and everything it says in one file. `stop` ends the whole tree: politely, then by
SIGKILL. If the test run itself dies, the kernel tells the program (``setpriv --pdeathsig``). Waiting is always polling
a condition with a deadline. A program that cannot be had skips the test loudly, and fails it where ``CI=true``.
"""

import atexit
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn, Self

import pytest

PACKAGES = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "slowhttptest": "slowhttptest",
    "curl": "curl",
    "openssl": "openssl",
    "chromium": "chromium",
    "socat": "socat",
    "ab": "apache2-utils",
    "certutil": "libnss3-tools",
    "testssl": "testssl.sh",
}
PATIENCE = 20.0  # seconds; generous, because test machines are busy
_living: "set[Process]" = set()


def unavailable(reason: str) -> NoReturn:
    """Skip and say so in the warnings; a failure where nothing may be missing (``CI=true``)."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    warnings.warn(f"not tested: {reason}", stacklevel=2)
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a program, its Debian package installed if it is missing; else `unavailable`."""
    found = shutil.which(name) or (install(PACKAGES.get(name, name)) and shutil.which(name))
    return found or unavailable(f"{name} (Debian package {PACKAGES.get(name, name)}) cannot be installed here")


@cache
def install(package: str) -> bool:
    """Install one Debian package, quietly, tried once; several test runs take turns."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # RUNLEVEL: start no service
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
    with open(Path(tempfile.gettempdir()) / "fairlead-tests-apt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for before in ([], ["apt-get", "update", "-qq"]):
            if before:
                subprocess.run(before, env=env, capture_output=True)
            if subprocess.run(command, env=env, capture_output=True).returncode == 0:
                return True
    return False


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition: Callable[[], object], seconds: float = PATIENCE, what: str = "") -> None:
    """Poll until `condition` is true; an AssertionError when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.01)


def folder() -> Path:
    """A new folder with a short path, readable by programs that give up their rights."""
    path = Path(tempfile.mkdtemp(prefix="fl-"))
    path.chmod(0o755)
    return path


class Process:
    """A running program; a context manager. `log` holds all that it says."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        scheme: str = "http",
    ) -> None:
        """Start `argv` in `home` (a new folder, removed by `stop`, when None); wait with `ready`."""
        self.argv = [str(part) for part in argv]
        self.name = Path(self.argv[0]).name
        self.port, self.scheme = port, scheme
        self._own_home = home is None
        self.home = home or folder()
        self.log = self.home / f"{self.name}.log"
        self._env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        tied = [shutil.which("setpriv"), "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*filter(None, tied), *self.argv],
                cwd=self.home,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _living.add(self)

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._popen.pid

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether the first process lives."""
        return self.exit_code is None

    def text(self) -> str:
        """All that it said so far."""
        return self.log.read_text(errors="replace")

    def ready(self, seconds: float = PATIENCE) -> Self:
        """Wait until its port accepts; an AssertionError with its last words if it does not."""
        try:
            eventually(lambda: not self.running or accepts(self.port), seconds, f"{self.name} opens port {self.port}")
            assert self.running, f"{self.name} ended with {self.exit_code}"
        except AssertionError as error:
            said = self.text()
            self.kill()
            raise AssertionError(f"{error}; it said:\n{said[-2000:]}") from None
        return self

    def says(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until what it said matches."""
        eventually(
            lambda: re.search(pattern, self.text()) or not self.running, seconds, f"{self.name} says {pattern!r}"
        )
        found = re.search(pattern, self.text())
        assert found, f"{self.name} ended with {self.exit_code} and never said {pattern!r}:\n{self.text()[-2000:]}"
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        return self._popen.wait(seconds)

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM, wait, SIGKILL for what is left of its session; its exit code. May be called twice."""
        if self.running:
            self.signal(signal.SIGTERM)
            try:
                self.wait(seconds)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not end within {seconds:g} s of SIGTERM")
        return self.kill()

    def kill(self) -> int:
        """End the whole session at once; prints the end of the log, which pytest shows when a test fails."""
        if self in _living:
            _living.discard(self)
            print(f"--- {self.name} said:\n{self.text()[-4000:]}")
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        code = self._popen.wait()
        if self._own_home:
            shutil.rmtree(self.home, ignore_errors=True)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@atexit.register
def kill_all() -> None:
    """Nothing that a test started outlives the test run."""
    for process in list(_living):
        process.kill()
