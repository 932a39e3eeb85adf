"""No lost wake-up: every order in which a reader's steps and an append's can fall, one after the other.

The store is the memory engine behind gates: each call stops before it takes effect and again before its answer arrives, and each
hint stops before it is heard. A run lets one gate go at a time; the runs are all the ways to choose. The loop's clock stands, so
what a reader was not told by then it never would have been (a look every some seconds aside, which is not part of this).
"""

import asyncio
import json

import pytest

from fairlead.store.contract import NewEvent
from fairlead.store.hub import Hub
from fairlead.store.memory import Memory
from topickit import STREAM, Server, events_of, settled

GATED = ("head", "read", "append", "delete", "create")


class Gates:
    """What could go on, in the order in which it came up."""

    def __init__(self):
        self.shut = False
        self.waiting = []

    async def stop(self, name):
        if self.shut:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((name, future))
            await future


class Gated(Memory):
    """The memory engine behind gates."""

    def __init__(self):
        super().__init__()
        self.gates = Gates()
        self.hinting = set()

    async def call(self, word, *args):
        if word not in GATED:
            return await Memory.call(self, word, *args)
        await self.gates.stop(f"{word} begins")
        try:
            return await Memory.call(self, word, *args)
        finally:
            await self.gates.stop(f"{word} is answered")

    def tell(self, news, stirred):
        if not self.gates.shut:
            Memory.tell(self, news, stirred)
            return

        async def later():
            await self.gates.stop("a hint is heard")
            Memory.tell(self, news, stirred)

        task = asyncio.get_running_loop().create_task(later())
        self.hinting.add(task)
        task.add_done_callback(self.hinting.discard)


async def appending(server, count):
    for n in range(1, count + 1):
        await server.store.log.append("a", [NewEvent(b"%d" % n)])


async def remaking(server, count):
    """The topic goes, and comes again under its name."""
    log = server.store.log
    await log.delete("a")
    await log.create("a", server.route.config("application/json"))
    await appending(server, count)


async def run_once(choices, begin, appends, ring_first, work=appending):
    """One order: `choices` says which gate goes at each step. (what was possible, the trace, what was heard)."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now  # or a busy machine lets a timer come in between
    store = Gated()
    await store.open()
    server = Server(store, Hub(store), wait=3600.0)
    server.names.announcing = False
    try:
        await server.publish(0)
        while server.feed.tasks or store.telling or store.hinting:  # what that set going is not part of it
            await asyncio.sleep(0)
        start = (await store.log.head("a")).last
        if ring_first:
            await server.feed.ring("a")
        gates = store.gates
        gates.shut = True
        heard = begin(server, start)

        task = asyncio.create_task(work(server, appends))
        possible, trace = [], []
        while True:
            await settled()
            if not gates.waiting:
                break
            here = choices[len(possible)] if len(possible) < len(choices) else 0
            possible.append(len(gates.waiting))
            name, future = gates.waiting.pop(here)
            trace.append(name)
            future.set_result(None)
        assert task.done()
        gates.shut = False
        return possible, trace, heard()
    finally:
        await server.feed.close()
        await store.close()


def every_order(begin, good, appends, ring_first, work=appending):
    """Go through all of them, depth first; how many there were."""

    async def all_runs():
        choices, count = [], 0
        while True:
            possible, trace, heard = await run_once(choices, begin, appends, ring_first, work)
            count += 1
            assert good(heard), f"heard {heard!r} when {'; '.join(trace)}"
            choices = (choices + [0] * len(possible))[: len(possible)]
            while choices and choices[-1] + 1 >= possible[len(choices) - 1]:
                choices.pop()
            if not choices:
                return count
            choices[-1] += 1

    return asyncio.run(all_runs())


def long_poll(server, start):
    peer = server.ask("GET", f"/t/a?offset={start}&live=long-poll")
    return lambda: (peer.status, json.loads(peer.answer) if peer.status == 200 else peer.answer)


def of_several(server, start):
    peer = server.ask("GET", f"/t/$many?topic=a&offset={start}&live=long-poll")
    return lambda: (peer.status, [event["data"] for frame in json.loads(peer.answer or b"[]") for event in frame.get("events", ())])


def event_stream(server, start):
    peer = server.ask("GET", f"/t/a?offset={start}", b"", STREAM)
    return lambda: (peer.status, [json.loads(data) for _, _, data in events_of(peer.answer.decode())])


def socket(server, start):
    peer = server.socket(f"/t/a?offset={start}")

    def heard():
        frames = [frame for frame in peer.frames() if isinstance(frame, dict)]
        return 200, [event["data"] for frame in frames for event in frame.get("events", ())]

    return heard


@pytest.mark.parametrize("begin", [long_poll, of_several, event_stream, socket])
@pytest.mark.parametrize("ring_first", [True, False], ids=["a topic followed already", "a topic nobody follows"])
def test_an_append_is_heard_once_whenever_it_falls(begin, ring_first):
    count = every_order(begin, lambda heard: heard == (200, [1]), 1, ring_first)
    assert count >= (20 if ring_first else 200)


def test_a_long_poll_hears_of_two_appends_in_their_order():
    """It may be answered by the first, or by both."""
    count = every_order(long_poll, lambda heard: heard in ((200, [1]), (200, [1, 2])), 2, True)
    assert count > 1000


def test_a_stream_hears_two_appends_in_their_order():
    count = every_order(event_stream, lambda heard: heard == (200, [1, 2]), 2, True)
    assert count > 1000


def test_a_long_poll_is_answered_when_its_topic_is_made_anew():
    """By what is new, or by what became of the offset it has; but it is answered."""
    count = every_order(long_poll, lambda heard: heard[0] in (200, 404, 410), 1, True, remaking)
    assert count > 200
