"""The master's side of the keepers: it starts one for each engine that a single process must own, before the first worker, and
another when one dies; it ends them after the last worker.

Rules
1. The listening socket is the master's for its whole life, so workers can connect, and wait, while no keeper lives. Its name is
   abstract where there are such names (Linux), else a path in a private folder.
2. A keeper that cannot start the first time ends the server, or the reload, with its error. Later it is tried again, ever more
   slowly; calls wait for it meanwhile (`store.remote`).
3. A new master (run/upgrade) gets the socket; the old one's keeper ends first, so that the new one's can have the file. Calls of
   old and new workers wait for those moments. If the new master does not come up, the old one starts its keepers again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairlead.core.errors import FairleadError
from fairlead.run import config as c
from fairlead.run import storing
from fairlead.run.channel import Channel
from fairlead.run.staff import identity

if TYPE_CHECKING:
    from fairlead.run.master import Master
    from fairlead.store.contract import Declaration

log = logging.getLogger("fairlead")

BACKOFF = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before the n-th start in a row that did not last
LASTED = 10.0  # seconds after which a keeper counts as having started well
GOING = 10.0  # seconds to finish commits in
LOOK = 1.0  # seconds between looks whether a keeper that is not ours is still there


class Kept:
    """One engine's keeper, through all its processes."""

    def __init__(self, url: str, config: c.Config, address: str = "", sock: socket.socket | None = None) -> None:
        self.url = url
        self.config = config
        if sock is None:
            address, sock = listen(identity(config.server.user))
        self.address = address
        self.sock: socket.socket | None = sock
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.declared: Declaration | None = None
        self.became: asyncio.Future[str] | None = None
        self.starts = 0
        self.fails = 0
        self.since = 0.0
        self.leaving = False

    async def start(self) -> str:
        """Start a process; what is wrong, "" when it keeps the store."""
        loop = asyncio.get_running_loop()
        user = identity(self.config.server.user)
        storing.make_folder(self.url, user)
        self.became = loop.create_future()
        self.channel, theirs = Channel.pair()
        command = [sys.executable, "-m", "fairlead.run.keeper", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, **user)
        theirs.close()
        self.leaving = False
        self.starts += 1
        self.since = loop.time()
        self.channel.watch(loop, self.heard, self.gone)
        values = {
            "url": self.url,
            "ack": self.config.store.ack,
            "log": self.config.log,
            "loop": self.config.server.loop,
        }
        assert self.sock is not None
        self.channel.say("start", [self.sock.fileno()], **values)
        return await self.became

    def heard(self, word: str, values: dict[str, Any], fds: list[int]) -> None:
        """A word of the process."""
        if self.became is not None and not self.became.done():
            if word == "ready":
                self.declared = values["declared"]
                self.became.set_result("")
            elif word == "failed":
                self.became.set_result(values["error"])

    def gone(self) -> None:
        """The process has ended, or will at once."""
        if self.became is not None and not self.became.done():
            self.became.set_result("it ended while it started")
            return
        if not self.leaving:
            asyncio.get_running_loop().create_task(self.again())

    async def again(self) -> None:
        """It died: another."""
        loop = asyncio.get_running_loop()
        pid = await self.end(0.0)
        error = "it is gone"
        while not self.leaving:
            self.fails = 0 if loop.time() - self.since > LASTED else self.fails + 1
            pause = BACKOFF[min(self.fails, len(BACKOFF) - 1)]
            log.error("keeper (pid %d) of %s: %s; a new one starts in %g s", pid, shown(self.url), error, pause)
            await asyncio.sleep(pause)
            if self.leaving:
                return
            error = await self.start()
            if not error:
                return
            pid = await self.end(1.0)

    async def end(self, patience: float) -> int:
        """See the process out, by force after so many seconds; its id."""
        process, channel = self.process, self.channel
        self.process = self.channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return 0
        for _ in range(round(patience / 0.01)):
            if process.poll() is not None:
                break
            await asyncio.sleep(0.01)
        if process.poll() is None:
            process.kill()
        process.wait()
        return process.pid

    async def stop(self) -> None:
        """End the process in order."""
        self.leaving = True
        if self.channel is not None:
            self.channel.say("drain")
            process = self.process
            for _ in range(round(GOING / 0.01)):
                if process is None or process.poll() is not None:
                    break
                await asyncio.sleep(0.01)
        await self.end(0.0)

    def close(self) -> None:
        """The socket goes."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            if self.address.startswith("/"):
                os.unlink(self.address)
                os.rmdir(os.path.dirname(self.address))


class Keepers:
    """All of them, and what the workers are told of the store."""

    def __init__(self, master: Master) -> None:
        self.master = master
        self.kept: dict[str, Kept] = {}
        self.places: dict[
            c.Store, storing.Places
        ] = {}  # by [store], for a plan that is tried and not taken changes nothing
        self.borrow: Callable[[str], str] | None = None  # who else may keep an engine (run/jobalone): its address, or ""
        self.borrowed: dict[str, str] = {}
        self.declared: dict[str, Declaration] = {}  # by engine, without secrets: as a worker was told when it opened it

    async def serve(self, config: c.Config) -> None:
        """Have keepers for what this configuration needs. Raises FairleadError when one cannot start."""
        if not storing.wanted(config):
            return
        urls = storing.urls(config)
        for url in storing.kept(urls):
            if self.borrow is not None and url not in self.kept and url not in self.borrowed:
                if found := await asyncio.to_thread(self.borrow, url):
                    self.borrowed[url] = found
                    self.master.spawn(self.follow(self.borrow))
            if url not in self.kept and url not in self.borrowed:
                address, sock = self.master.given.keepers.pop(url, ("", None))
                kept = self.kept[url] = Kept(url, config, address, sock)
                error = await kept.start()
                if error:
                    await kept.stop()
                    kept.close()
                    del self.kept[url]
                    raise FairleadError(f"the store cannot be opened: {error}")
        self.places[config.store] = storing.Places(urls, {url: kept.address for url, kept in self.kept.items()} | self.borrowed)

    async def follow(self, borrow: Callable[[str], str]) -> None:
        """A keeper that is not ours may go, and come back elsewhere: then the workers are made anew, with its new address."""
        while True:
            await asyncio.sleep(LOOK)
            for url, address in list(self.borrowed.items()):
                if alive(address):
                    continue
                found = await asyncio.to_thread(borrow, url)
                if found and found != address:
                    log.warning("the store's keeper has moved: new processes for jobs")
                    self.borrowed[url] = found
                    await self.master.reload(True)

    def of(self, config: c.Config) -> storing.Places | None:
        """What a role is told that serves this configuration."""
        return self.places.get(config.store)

    def heard(self, declared: dict[str, Declaration]) -> None:
        """A worker has opened the store, and says what it promises."""
        self.declared.update(declared)

    def addresses(self) -> dict[str, str]:
        """Where the keepers are, by file: for `fairlead job workers` of the same user."""
        return {storing.named(url): kept.address for url, kept in self.kept.items()}

    def reopen(self) -> None:
        """SIGUSR1."""
        for kept in self.kept.values():
            if kept.channel is not None:
                kept.channel.say("reopen")

    async def yield_all(self) -> None:
        """A new master's keepers are to have the files."""
        await asyncio.gather(*(kept.stop() for kept in self.kept.values()))

    async def resume(self) -> None:
        """It did not come up."""
        for kept in self.kept.values():
            error = await kept.start()
            if error:
                log.error("keeper of %s: %s", shown(kept.url), error)
                kept.gone()

    async def close(self) -> None:
        """The end: after the last worker."""
        await self.yield_all()
        for kept in self.kept.values():
            kept.close()
        self.kept.clear()

    def status(self) -> list[dict[str, Any]]:
        """What the store promises, for `status`, the page and the start line: one entry for each engine."""
        found = []
        for url, one in self.declared.items():
            kept = next((kept for full, kept in self.kept.items() if shown(full) == url), None)
            found.append({
                "url": url,
                "engine": one.engine,
                "ack": str(one.ack),
                "dedupe": one.dedupe,
                "outbox": one.outbox,
                "shared": one.shared,
                "topics": one.topics,
                "notes": list(one.notes),
                "keeper": kept.process.pid if kept is not None and kept.process is not None else 0,
                "starts": kept.starts if kept is not None else 0,
            })  # fmt: skip
        return found


def shown(url: str) -> str:
    """The URL without what is secret in it."""

    from fairlead.store.open import without_secrets

    return without_secrets(url)


def listen(user: dict[str, Any]) -> tuple[str, socket.socket]:
    """A unix socket that only we know of, and its address."""
    sock = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":
        address = f"\0fairlead-keeper-{os.getpid()}-{secrets.token_hex(8)}"
    else:
        import tempfile

        folder = tempfile.mkdtemp(prefix="fairlead-")
        address = os.path.join(folder, "keeper")
    sock.bind(address)
    if user and address.startswith("/"):
        import shutil

        shutil.chown(os.path.dirname(address), user["user"], user["group"])
        shutil.chown(address, user["user"], user["group"])
    sock.listen(1024)
    return address, sock


def alive(address: str) -> bool:
    """Somebody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(address)
        except OSError:
            return False
    return True
