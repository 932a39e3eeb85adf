"""A keeper in a process of its own, which can be killed, stopped and started again: for the suite and the benches.

As with the master of a server, the listening socket belongs to whoever holds this object, so clients can connect while no keeper
lives. `python -m fairlead.store.suite.kept FD URL ACK SHIFT` is the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..contract import Ack, Declaration, Engine
from ..keeper import Keeper
from ..memory import Memory
from ..remote import Remote
from ..sqlfile import path_of
from ..sqlite import Sqlite
from .kit import Opener


class KeeperProcess:
    """The process; a context manager."""

    def __init__(
        self, url: str, folder: Path | None = None, ack: Ack | None = None, wrap: Sequence[str] = (), shift: float = 0.0
    ) -> None:
        self.url, self.ack, self.wrap = url, ack, wrap
        self.shift = shift  # seconds that the process's time of day is off
        self.folder = tempfile.mkdtemp(prefix="fairlead-keeper-")
        self.address = os.path.join(self.folder, "keeper")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.address)
        self.sock.listen(128)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KeeperProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)
        self.sock.close()
        os.unlink(self.address)
        os.rmdir(self.folder)

    def start(self) -> None:
        """Start it; clients may connect at once."""
        fd = self.sock.fileno()
        own = [
            sys.executable,
            "-P",
            "-m",
            "fairlead.store.suite.kept",
            str(fd),
            self.url,
            self.ack or "",
            str(self.shift),
        ]
        self.process = subprocess.Popen([*self.wrap, *own], pass_fds=[fd])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """And let it go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def opener(self) -> Opener:
        """Each connection is another client, as each worker is."""

        async def open_it() -> tuple[Engine, Declaration]:
            engine = Remote(self.address)
            return engine, await engine.open()

        return open_it


async def serve(fd: int, url: str, ack: Ack | None, shift: float) -> None:
    """Keep the store until SIGTERM, with a time of day that is `shift` seconds off."""
    clock = Clock(wall=lambda: time.time() + shift)
    memory = url.startswith("memory:")
    engine: Any = Memory(clock) if memory else Sqlite(path_of(url), ack, clock, inline=True, patience=10.0)
    keeper = Keeper(engine, socket.socket(fileno=fd))
    await keeper.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await keeper.stop()


def main() -> None:
    """The process."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], Ack(sys.argv[3]) if sys.argv[3] else None, float(sys.argv[4])))


if __name__ == "__main__":
    main()
