"""What a durable publish costs: events per second under group commit, and the latency of a single one beside the disk's own sync.

    python bench/store.py [--dir FOLDER] [--seconds 2] [--size 256] [--flight 128] [--servers] [URL ...]

Prints, for memory, the embedded engine in this process, the same through a keeper process, and engines at URLs: events acknowledged
per second with so many appends in flight, to one topic and spread over 100; the median and 99th percentile of one append at a
time; and what a bare write + fdatasync costs in the same folder, which no engine can beat. For engines that several machines
share also the way from one node to another: two connections to the store, one publishes 100 events a second, the other is
subscribed; the time from the call of the append to the event in the other's hands. `--servers` starts a PostgreSQL and a Redis
(each syncs every commit) for this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from fairlead.store.contract import Engine, Event, NewEvent, Offset, TopicConfig
from fairlead.store.open import make_engine, without_secrets
from fairlead.store.remote import Remote
from fairlead.store.suite.kept import KeeperProcess

Append = Callable[[int], Awaitable[object]]


def sync_cost(folder: str, size: int, n: int = 300) -> list[float]:
    """Seconds of each of `n` writes + fdatasync of an own file, sorted."""
    path = os.path.join(folder, "sync")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    took = []
    for _ in range(n):
        begun = time.perf_counter()
        os.write(fd, b"x" * (size + 4096))
        os.fdatasync(fd)
        took.append(time.perf_counter() - begun)
    os.close(fd)
    os.unlink(path)
    return sorted(took)


async def flood(append: Append, seconds: float, flight: int) -> tuple[float, float]:
    """(events per second, CPU microseconds of this process per event) with `flight` appends waiting at any time."""
    done = 0
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await append(number)
            done += 1

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(number) for number in range(flight)))
    return done / (time.perf_counter() - begun), (time.process_time() - cpu) / max(done, 1) * 1e6


async def single(append: Append, seconds: float) -> list[float]:
    """Seconds of each append, one at a time, sorted."""
    took = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        await append(0)
        took.append(time.perf_counter() - begun)
    return sorted(took)


async def measure(engine: Engine, seconds: float, size: int, flight: int) -> dict[str, float]:
    """All figures of one engine."""
    await engine.open()
    log = engine.log
    assert log is not None
    event = [NewEvent(b"x" * size)]
    topics = [f"bench-{n}" for n in range(100)]
    for topic in topics:
        await log.create(topic, TopicConfig())

    async def hot(number: int) -> object:
        return await log.append("bench-0", event)

    async def spread(number: int) -> object:
        return await log.append(topics[number % 100], event)

    found = {}
    found["one topic, events/s"], found["one topic, CPU us/event"] = await flood(hot, seconds, flight)
    found["100 topics, events/s"], found["100 topics, CPU us/event"] = await flood(spread, seconds, flight)
    took = await single(hot, seconds)
    found["single p50, us"] = statistics.median(took) * 1e6
    found["single p99, us"] = took[int(len(took) * 0.99)] * 1e6
    await engine.close()
    return found


async def between(url: str, seconds: float, size: int, rate: float = 100.0) -> dict[str, float]:
    """The way of an event from one node to another."""
    here, there = make_engine(url), make_engine(url)
    await here.open()
    await there.open()
    assert here.log is not None and there.log is not None
    head, _ = await here.log.create("bench-between", TopicConfig())
    place, news, took = head.last, asyncio.Event(), list[float]()
    carried: list[Event] = []

    def hint(topic: str, last: Offset | None, events: Sequence[Event]) -> None:
        carried.extend(events)
        news.set()

    async def follow() -> None:
        nonlocal place
        while True:
            await news.wait()
            news.clear()
            events, carried[:] = [event for event in carried if event.seq > place.seq], []
            if not events or events[0].seq != place.seq + 1:
                events = list((await there.log.read("bench-between", place)).events)  # type: ignore[union-attr]
            for event in events:
                took.append(time.perf_counter() - float(event.data[:20]))
                place = Offset(place.epoch, event.seq)

    there.log.watch(hint)
    there.log.interest("bench-between", True)
    follower = asyncio.ensure_future(follow())
    await asyncio.sleep(0.5)
    del took[:]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await here.log.append("bench-between", [NewEvent(f"{time.perf_counter():<20.6f}".encode().ljust(size))])
        await asyncio.sleep(1.0 / rate)
    await asyncio.sleep(0.5)
    follower.cancel()
    await here.close()
    await there.close()
    took.sort()
    return {"to another node p50, us": statistics.median(took) * 1e6, "to another node p99, us": took[int(len(took) * 0.99)] * 1e6}


def servers(stack: ExitStack, folder: Path) -> list[str]:
    """A PostgreSQL and a Redis of our own."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "store"))
    from servers import PostgresServer, RedisServer, running

    return [stack.enter_context(running(kind(folder / kind.__name__))).url for kind in (PostgresServer, RedisServer)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="*", help="engines at an address")
    parser.add_argument("--dir", default=None, help="where the file goes; a disk, not a tmpfs")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--flight", type=int, default=128)
    parser.add_argument("--servers", action="store_true", help="start a PostgreSQL and a Redis and measure them")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.loop == "uvloop":
        import uvloop

        uvloop.install()
    folder = tempfile.mkdtemp(prefix="fairlead-bench-", dir=args.dir)
    stack = ExitStack()
    try:
        if args.servers:
            args.url += servers(stack, Path(folder))
        took = sync_cost(folder, args.size)
        results: dict[str, dict[str, float]] = {
            "disk": {"sync p50, us": statistics.median(took) * 1e6, "sync p99, us": took[-4] * 1e6}
        }
        for name, url in (("memory", "memory:"), ("sqlite", f"sqlite:///{Path(folder) / 'bench.db'}")):
            results[name] = asyncio.run(measure(make_engine(url), args.seconds, args.size, args.flight))
        with KeeperProcess(f"sqlite:///{Path(folder) / 'kept.db'}") as kept:
            results["sqlite by a keeper"] = asyncio.run(measure(Remote(kept.address), args.seconds, args.size, args.flight))
        for url in args.url:
            results[without_secrets(url)] = asyncio.run(measure(make_engine(url), args.seconds, args.size, args.flight))
            results[without_secrets(url)] |= asyncio.run(between(url, args.seconds, args.size))
    finally:
        stack.close()
        shutil.rmtree(folder)
    if args.json:
        print(json.dumps(results, indent=1))
        return
    for name, figures in results.items():
        print(name)
        for what, figure in figures.items():
            print(f"  {what:28} {figure:12,.0f}")


if __name__ == "__main__":
    main()
