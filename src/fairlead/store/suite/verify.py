"""Everything on one URL, for `fairlead verify --store URL`: rows of what was tried and how it went.

    contract   every check of the suite
    model      random walks beside the memory engine
    history    clients at work, judged
    faults     the same while something breaks: what can be broken depends on the engine
                 memory, sqlite: a keeper of our own is killed, stopped, restarted; its disk fills; its clock is set back
                 at an address:  connections are cut and stalled on the way (its process is its operator's to kill)

A file is not touched: the work is done on another in the same folder, which is removed. In an engine at an address all names begin
with `verify-`, and what has them is deleted at the end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..contract import Ack, Declaration, Engine, Item, NewEvent, StoreError, TopicConfig
from ..open import make_engine, open_engine, without_secrets
from ..remote import Remote
from ..sqlfile import path_of
from ..sqlite import declaration
from .faults import Target, keeper_target, network_target, ordeal
from .kept import KeeperProcess
from .kit import CHECKS, Failed, Opener, everything
from .model import walk
from .run import Outcome, run_one

WALKS, STEPS = 10, 150
SMALL = "1536k"  # the disk that fills


class Subject:
    """What is verified: how to connect to it, and what of ours keeps it."""

    def __init__(self, url: str, ack: Ack | None) -> None:
        self.url, self.ack = url, ack
        self.embedded = url.startswith(("memory:", "sqlite:"))
        self.folder = ""
        self.kept: KeeperProcess | None = None

    def __enter__(self) -> Subject:
        if self.embedded:
            url = self.url
            if url.startswith("sqlite:"):
                home = Path(path_of(url)).absolute().parent
                try:
                    home.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self.folder = tempfile.mkdtemp(prefix="verify-", dir=home)
                except OSError as error:
                    raise StoreError(f"{home} cannot be written: {error}", hint="another folder: --store") from error
                url = f"sqlite:///{self.folder}/verify.db"
            self.kept = KeeperProcess(url, ack=self.ack)
            self.kept.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.kept is not None:
            self.kept.__exit__()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def opener(self) -> Opener:
        """Another connection each time."""
        return self.kept.opener() if self.kept is not None else connect(self.url, self.ack)

    async def declared(self) -> Declaration:
        """What the engine promises. ConfigError, StoreError."""
        if self.url.startswith("sqlite:"):
            return declaration(str(Path(self.folder or "/")), self.ack)
        engine, declared = await open_engine(self.url, self.ack)
        await engine.close()
        return declared


def connect(url: str, ack: Ack | None) -> Opener:
    """Openers of an engine at an address."""

    async def open_it() -> tuple[Engine, Declaration]:
        engine = make_engine(url, ack)
        return engine, await engine.open()

    return open_it


async def verify(subject: Subject, seconds: float, seed: int) -> AsyncIterator[tuple[str, Outcome]]:
    """(section, outcome) of everything, as it is done."""
    room = asyncio.Semaphore(12)

    async def one(check: tuple[str, str, Callable]) -> Outcome:
        async with room:
            return await run_one(check[0], check[1], check[2], subject.opener())

    for done in asyncio.as_completed([one(check) for check in CHECKS]):
        yield "contract", await done
    yield "model", await timed(f"{WALKS} walks of {STEPS} steps", walks(subject, seed))
    quiet = Target(subject.opener(), {})
    yield "history", await timed("clients at work", judged(quiet, seconds / 4, seed, "quiet"))
    async for outcome in broken(subject, seconds, seed):
        yield "faults", outcome
    if not subject.embedded:
        await clean(subject)


async def timed(name: str, work: Awaitable[str]) -> Outcome:
    """How it went; `work` answers with a remark, or raises Failed, or Skipped."""
    begun = time.monotonic()
    try:
        why, result = await work, "passed"
    except Failed as error:
        result, why = "failed", str(error)
    except Skipped as skip:
        result, why = "skipped", str(skip)
    except Exception as error:
        result, why = "error", f"{type(error).__name__}: {error}"
    return Outcome(name, result, why, time.monotonic() - begun)


class Skipped(Exception):
    """It cannot be tried here, and why."""


async def walks(subject: Subject, seed: int) -> str:
    """Random walks."""
    engine, _ = await subject.opener()()
    if None in (engine.log, engine.leases, engine.state):
        raise Skipped("the engine has not all three parts")
    try:
        for number in range(WALKS):
            await walk(engine, f"verify-{os.getpid()}-{seed + number}/", seed + number, STEPS)
    finally:
        await engine.close()
    return f"seeds {seed} to {seed + WALKS - 1}"


async def judged(target: Target, seconds: float, seed: int, name: str) -> str:
    """A history, and what is wrong with it."""
    load, found = await ordeal(target, seconds, seed, name)
    if found:
        kinds = sorted({one.kind for one in found})
        raise Failed(f"{len(found)} anomalies ({', '.join(kinds)}), seed {seed}; the first: {found[0]}")
    if not load.acknowledged and load.writers:
        raise Failed("nothing was acknowledged")
    done = ", ".join(f"{count} x {fault}" for fault, count in sorted(target.counts.items()))
    return (
        f"{load.acknowledged} appends acknowledged, {load.retried} calls failed in between{'; ' + done if done else ''}"
    )


async def broken(subject: Subject, seconds: float, seed: int) -> AsyncIterator[Outcome]:
    """What can be broken of this engine."""
    if subject.kept is not None:
        target = keeper_target(subject.kept)
        yield await timed("its process killed, stopped, restarted", judged(target, seconds, seed, "process"))
        yield await timed("its clock set back", set_back(subject.kept))
        yield await timed("its disk full", full_disk(subject))
        return
    found = await network_target(subject.url, connect, subject.ack)
    if found is None:
        yield Outcome("connections cut and stalled", "skipped", "no host and port in the URL to stand before")
        return
    target, relay = found
    yield await timed("connections cut and stalled", judged(target, seconds, seed, "network"))
    await relay.stop()


async def set_back(kept: KeeperProcess) -> str:
    """A restart on a machine whose clock was set back by a day: time does not turn back, and no lease ends."""
    if kept.url.startswith("memory:"):
        raise Skipped("memory does not outlive its process")
    engine = Remote(kept.address)
    await engine.open()
    name = f"verify-clock-{os.getpid()}"
    await engine.leases.put(name, [Item("a", b"")])
    [lease] = await engine.leases.claim(name, 1, 600.0)
    before = await engine.now()
    kept.kill(15)
    kept.shift = -86400.0
    kept.start()
    try:
        again = await engine.leases.claim(name, 1, 1.0)
        if again:
            raise Failed("a lease of ten minutes had ended")
        if await engine.now() < before - 2.0:
            raise Failed(f"the store's time went from {before} to {await engine.now()}")
        if await engine.leases.ack([lease]) != [True]:
            raise Failed("the holder of the lease was fenced")
    finally:
        kept.shift = 0.0
        await engine.close()
    return "by a day, over a restart"


async def full_disk(subject: Subject) -> str:
    """A file system of some pages that only the keeper sees: appends are refused, nothing acknowledged is lost, room heals."""
    if not subject.url.startswith("sqlite:"):
        raise Skipped("memory has no disk")
    if shutil.which("nsenter") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        raise Skipped("a file system of its own needs root")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        script = f"mount -t tmpfs -o size={SMALL} none {folder} && echo there && exec sleep 600"
        holder = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            if not holder.stdout.readline():
                raise Skipped("a small file system cannot be mounted")
            enter = ["nsenter", "-t", str(holder.pid), "-m", "-w", "--"]
            with KeeperProcess(f"sqlite:///{folder}/verify.db", wrap=enter) as kept:
                return await filled(kept, Path(f"/proc/{holder.pid}/root{folder}"))
        finally:
            holder.kill()
            holder.communicate()


async def filled(kept: KeeperProcess, seen: Path) -> str:
    """The work on the small disk, which is `seen` from here."""
    engine = Remote(kept.address)
    await engine.open()
    filler = seen / "filler"
    filler.write_bytes(b"x" * 400_000)
    topic = "verify-full"
    await engine.log.create(topic, TopicConfig())
    done: list[int] = []
    try:
        for _ in range(2000):
            done.append((await engine.log.append(topic, [NewEvent(os.urandom(4000))])).last.seq)
        raise Failed("a disk of 1.5 MB took 8 MB")
    except StoreError as error:
        refused = error
    if refused.status != 507:
        raise Failed(f"the refusal does not say that the disk is full: {refused}")
    filler.unlink()
    done.append((await engine.log.append(topic, [NewEvent(b"room")])).last.seq)
    kept.kill()
    kept.start()
    found = [event.seq for event in await everything(engine.log, topic)]
    await engine.close()
    if found != done:
        raise Failed(f"{len(done)} appends were acknowledged, {len(found)} are there")
    return f"{len(done)} appends before and after"


async def clean(subject: Subject) -> None:
    """Delete what has our names."""
    with suppress(StoreError, OSError):
        async with opened(subject.opener()) as engine:
            if engine.log is not None:
                while heads := await engine.log.topics("verify-"):
                    for head in heads:
                        await engine.log.delete(head.topic)
            if engine.leases is not None:
                for queue in await engine.leases.queues("verify-"):
                    await engine.leases.drop(queue)
            if engine.state is not None:
                while entries := await engine.state.scan("verify-"):
                    for key, _ in entries:
                        await engine.state.delete_if(key)


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Engine]:
    """An engine for a while."""
    engine, _ = await opener()
    try:
        yield engine
    finally:
        await engine.close()


def title(subject: Subject, declared: Declaration) -> list[str]:
    """What is verified, in lines."""
    window = "as long as the topic lives" if declared.dedupe is None else f"{declared.dedupe:g} s"
    lines = [
        f"{without_secrets(subject.url)}: {declared.engine}",
        f"  acknowledged means {declared.ack}; duplicates are known for {window}; topics: {declared.topics}",
    ]
    return lines + [f"  note: {note}" for note in declared.notes]
