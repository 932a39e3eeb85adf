"""Clients that ask without a pause while something happens to the server, and what /proc says of its processes."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from processes import eventually


def worker_pids(master: int) -> list[int]:
    """The children of the master."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == master:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Does a process exist, and is it more than a name waiting for its parent?"""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Load(threading.Thread):
    """Clients that ask again and again until told to stop: some keep their connection, some take a new one each time. Between two
    requests of a client is a pause of `pause` seconds, so that a thousand a second are asked and the server has time for what is
    tested: without it the clients would take all that there is of the machine.

    A kept connection that was closed while nothing was asked on it is opened again, as every client does; an answer
    that does not come, or not whole, is a failure.
    """

    def __init__(self, port: int, path: str = "/", kept: int = 4, fresh: int = 2, pause: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.port, self.path, self.pause = port, path, pause
        self.kept, self.fresh = kept, fresh
        self.answers, self.failures, self.bodies = 0, [], set()
        self.over = False

    def run(self) -> None:
        asyncio.run(self.all())

    async def all(self) -> None:
        await asyncio.gather(*(self.client(place < self.kept) for place in range(self.kept + self.fresh)))

    async def client(self, keep: bool) -> None:
        reader = writer = None
        while not self.over:
            if writer is None or reader is None or reader.at_eof():
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError as error:
                    if not self.over:
                        self.failures.append(f"connect: {error}")
                    await asyncio.sleep(0.01)
                    continue
            close = await self.ask(reader, writer, keep)
            if close or not keep:
                writer.close()
                writer = None
            await asyncio.sleep(self.pause)

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bool) -> bool:
        """One request; True when the connection is over."""
        try:
            last = "" if keep else "Connection: close\r\n"
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n{last}\r\n".encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).lower()
            length = int(re.search(rb"content-length: (\d+)", head)[1])
            body = await reader.readexactly(length)
            assert head.startswith(b"http/1.1 200"), head
            self.answers += 1
            self.bodies.add(body)
            return b"connection: close" in head
        except (OSError, AssertionError, asyncio.IncompleteReadError, TimeoutError, TypeError) as error:
            if not self.over:
                self.failures.append(f"{type(error).__name__}: {error}")
            return True

    def answered(self, count: int) -> None:
        """Wait for so many more answers."""
        target = self.answers + count
        eventually(lambda: self.answers >= target, what=f"{count} more answers ({self.failures[:3]})")


@contextmanager
def under_load(port: int, **options) -> Iterator[Load]:
    """Load for the time of a block, with some answers before it."""
    load = Load(port, **options)
    load.start()
    load.answered(20)
    try:
        yield load
    finally:
        load.over = True
        load.join(20)
