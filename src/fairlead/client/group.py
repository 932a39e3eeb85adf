"""Consumer groups: several programs share a topic's events, and each event is done by one of them.

    async for item in orders.group("mail").items():
        send(item.data)
        await item.ack()                    # or item.nack(delay=30), item.term("broken"); leaving the loop gives back

Rules
1. An item that is claimed is extended at a third of its lease's time while its holder has it, so no lease length need be guessed; a
   holder that dies loses it after `ttl` seconds, and it goes to another one with a higher fence.
2. Who comes too late gets a ServerError with 409 from `ack`: another one has it by now.
3. Claims wait at the server (a long poll), and are tried again after trouble, as everything here.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairlead.client.words import Backoff, as_json, passing
from fairlead.core.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.client.topics import Topic

WAIT = 20.0


@dataclass
class Item:
    """One event that is ours for now. `attempt` counts the claims so far, from 1."""

    group: Group
    id: str
    fence: int
    attempt: int
    data: Any
    offset: str
    type: str = ""
    key: str = ""
    settled: bool = field(default=False, init=False)

    async def ack(self, *publish: Mapping[str, Any]) -> None:
        """It is done. ServerError 409: it is somebody else's by now.

        `publish`: events that go out with it, each {"topic", "data"} and maybe "type" and "key"; bytes for topics of bytes. They
        are published and the item is done, or it comes again and the same events are published once.
        """
        self.settled = True
        self.group.room.set()
        said: dict[str, Any] = {"id": self.id, "fence": self.fence}
        if publish:
            said["publish"] = [in_words(one) for one in publish]
        await self.group.say("ack", {"items": [said]})

    async def nack(self, delay: float = 0.0, reason: str = "") -> None:
        """Somebody shall do it, not before `delay` seconds."""
        await self.settle("nack", delay=delay, reason=reason)

    async def term(self, reason: str = "") -> None:
        """It cannot be done: a dead letter."""
        await self.settle("term", reason=reason)

    async def settle(self, word: str, **more: Any) -> None:
        """Given back, or given up."""
        self.settled = True
        self.group.room.set()
        await self.group.say(word, {"items": [{"id": self.id, "fence": self.fence}], **more})


def in_words(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the server reads it: bytes as base64."""
    said = dict(event)
    if isinstance(said.get("data"), bytes | bytearray):
        said["base64"] = base64.b64encode(said.pop("data")).decode()
    return said


class Group:
    """One group of one topic; made by `Topic.group`."""

    def __init__(self, topic: Topic, name: str, *, ttl: float = 30.0, after: str = "now", owner: str = "") -> None:
        self.topic, self.name, self.ttl, self.after, self.owner = topic, name, ttl, after, owner
        self.room = asyncio.Event()  # something was settled

    async def say(self, word: str, given: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """One of the verbs. ServerError, NetError."""
        body = as_json(given)
        target = self.topic.target + f"/groups/{self.name}:{word}".encode()
        head = [(b"content-type", b"application/json")]
        _, _, got = await self.topic.patiently("POST", target, head, body, timeout)
        return dict(json.loads(got))

    async def make(self) -> None:
        """Make it, from `after` on; one that is there stays as it is."""
        target = self.topic.target + f"/groups/{self.name}".encode()
        head = [(b"content-type", b"application/json")]
        await self.topic.patiently("PUT", target, head, as_json({"after": self.after}))

    async def claim(self, n: int = 1, wait: float = 0.0) -> list[Item]:
        """Up to `n` items, waiting up to `wait` seconds for the first. They are not extended for you."""
        given = {"n": n, "ttl": self.ttl, "wait": wait, "after": self.after, "owner": self.owner}
        said = await self.say("claim", given, self.topic.client.server.timeout + wait)
        return [self.item(one) for one in said["items"]]

    def item(self, said: dict[str, Any]) -> Item:
        """What a claim gave."""
        data = base64.b64decode(said["base64"]) if "base64" in said else said.get("data")
        offset, kind, key = (str(said.get(name, "")) for name in ("o", "type", "key"))
        return Item(self, said["id"], said["fence"], said.get("attempt", 1), data, offset, kind, key)

    async def items(self, n: int = 1) -> AsyncIterator[Item]:
        """One item after the other, for ever, each held until it is settled. Left unsettled it is given back."""
        backoff = Backoff()
        while True:
            try:
                found = await self.claim(n, WAIT)
            except FairleadError as error:
                if not passing(error):
                    raise
                await asyncio.sleep(backoff.pause(error.after))
                continue
            backoff.reset()
            left = list(found)
            holder = asyncio.create_task(self.hold(left))
            try:
                while left:
                    yield left[0]
                    if not left[0].settled:
                        await self.give_back(left[:1])
                    left.pop(0)
            finally:
                holder.cancel()
                await self.give_back(left)

    async def several(self, most: int = 10) -> AsyncIterator[Item]:
        """Items for ever, up to `most` of them out at once: settle them in any order, from any task. Each is held until then.

        What is not settled when the iteration is closed is given back.
        """
        backoff = Backoff()
        out: list[Item] = []
        holder = asyncio.create_task(self.hold(out))
        try:
            while True:
                out[:] = [item for item in out if not item.settled]
                if len(out) >= most:
                    self.room.clear()
                    await self.room.wait()
                    continue
                try:
                    found = await self.claim(most - len(out), WAIT)
                except FairleadError as error:
                    if not passing(error):
                        raise
                    await asyncio.sleep(backoff.pause(error.after))
                    continue
                backoff.reset()
                out += found
                for item in found:
                    yield item
        finally:
            holder.cancel()
            await self.give_back(out)

    async def hold(self, left: list[Item]) -> None:
        """Extend what is not settled."""
        while True:
            await asyncio.sleep(self.ttl / 3)
            held = [{"id": item.id, "fence": item.fence} for item in left if not item.settled]
            with suppress(FairleadError):
                if held:
                    await self.say("extend", {"items": held, "ttl": self.ttl})

    async def give_back(self, items: list[Item]) -> None:
        """Those that are not settled, to somebody else."""
        held = [{"id": item.id, "fence": item.fence} for item in items if not item.settled]
        with suppress(FairleadError):
            if held:
                await self.say("nack", {"items": held})
