"""Consumer groups of a topic over HTTP (and, by `topicws`, on sockets): each event to one of a group, until it is acknowledged.

    POST …/groups/G:claim   {"n": 10, "ttl": 30, "wait": 5}   200 {"items": [{"id", "fence", "attempt", "o", "type", "data"}]}
    POST …/groups/G:ack     {"items": [{"id", "fence"}]}      200 {"done": n}, 409 FENCED when one of them is no longer yours
                            each item may bring "publish": {"topic", "data", …} or a list of them (`topicpub`)
    POST …/groups/G:extend  the same, "ttl"      :nack  the same, "delay", "reason"      :term  the same, "reason"
    POST …/groups/G:seek    {"after": o}         begin again there
    POST …/groups/G:redrive {"ids": […]}         dead letters live again, all without "ids"
    GET  …/groups/G         the group in numbers          GET …/groups/G/dead     dead letters
    PUT  …/groups/G         {"after": o}, makes it (a first claim does too, from now on)        DELETE …/groups/G
    GET  …/groups           all of them

Rules
1. A group is a queue fed by its topic (`store.contract.Leases`): at least once, in order as long as nothing is given back. An item
   that was claimed `attempts` times without an acknowledgement is a dead letter.
2. A fence grows with each claim: who holds an old one can change nothing (409).
3. `wait` makes a claim a long poll: it listens first and looks then. It ends with nothing when its client closes its side or the
   server says farewell, and what was claimed for a client that is gone is given back: nobody would hold it until its lease ends.
4. What items publish with their `:ack` goes out before it, when it is known that they are still the consumer's: published and
   acknowledged, or the item comes again and the same is published once.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

from fairlead.core.aio import Call
from fairlead.core.errors import Refused
from fairlead.serve import topicforms as forms
from fairlead.serve.jsontext import clean, compact, parsed
from fairlead.serve.topicpub import in_turn
from fairlead.serve.topicwords import SECURITY
from fairlead.store.contract import Event, Fenced, Gap, Lease, Offset, Store
from fairlead.store.hub import Hub

TTL = 30.0  # seconds of a lease that says nothing else
LONGEST = 3600.0
MOST = 1000  # items of one call
WAIT = 25.0
ATTEMPTS = 20
GROUP = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def queue_of(topic: str, group: str) -> str:
    """Where a group's items are."""
    return f"group/{topic}/{group}"


class Groups:
    """The groups of topics."""

    def __init__(self, store: Store, hub: Hub, attempts: int = ATTEMPTS, ttl: float = TTL) -> None:
        self.store, self.hub, self.attempts, self.ttl = store, hub, attempts, ttl

    async def answer(self, call: Call, topic: str, rest: str, route: Any = None) -> None:
        """What stands behind `…/groups`; consumers publish to topics of `route`."""
        method = call.request.method  # type: ignore[attr-defined]
        name, _, word = rest.removeprefix("groups").strip("/").partition(":")
        name, _, part = name.partition("/")
        if not name and method == "GET":
            prefix = queue_of(topic, "")
            found = [queue.removeprefix(prefix) for queue in await self.store.leases.queues(prefix)]
            await told(call, {"groups": [await self.numbers(topic, one) for one in found]})
        elif not GROUP.fullmatch(name):
            raise Refused("a group's name has 1 to 64 letters, digits, _, - and .", status=400)
        elif word and not part and method == "POST":
            await told(call, await self.act(topic, name, word, await given(call), call, route, call.exchange))
        elif part == "dead" and method == "GET":
            dead = await self.store.leases.dead(queue_of(topic, name))
            await told(call, {"dead": [{"id": d.id, "attempts": d.attempts, "reason": d.reason, "at": d.at} for d in dead]})
        elif not part and not word and method == "GET":
            await told(call, await self.numbers(topic, name))
        elif not part and not word and method == "PUT":
            after = (await given(call)).get("after")
            await self.make(topic, name, after)
            await told(call, await self.numbers(topic, name))
        elif not part and not word and method == "DELETE":
            if not await self.store.leases.drop(queue_of(topic, name)):
                raise Refused(f"there is no group {name}", status=404)
            await call.respond(204, b"", list(SECURITY))
        else:
            raise Refused("POST …/groups/G:claim, and GET, PUT or DELETE …/groups/G are here", status=405)

    async def make(self, topic: str, group: str, after: Any) -> None:
        """The group, from somewhere on. Refused 400."""
        await self.store.leases.feed(queue_of(topic, group), topic, await self.place(topic, after))

    async def place(self, topic: str, after: Any) -> Offset | None:
        """An offset as a client writes it. Refused 400, NoTopic."""
        if after in (None, "now"):
            return None
        if after in ("-1", "earliest"):
            return (await self.store.log.head(topic)).first
        try:
            return Offset.parse(after)
        except (ValueError, AttributeError):
            raise Refused('"after" is an offset, "-1" or "now"', status=400) from None

    async def numbers(self, topic: str, group: str) -> dict[str, Any]:
        """A group in numbers."""
        depth = await self.store.leases.depth(queue_of(topic, group))
        found: dict[str, Any] = {name: getattr(depth, name) for name in ("ready", "delayed", "leased", "dead", "lag", "oldest")}
        return {"group": group, **found}

    async def act(
        self, topic: str, group: str, word: str, said: dict[str, Any], call: Call | None = None, route: Any = None,
        exchange: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """One of the verbs; `call` is who waits for a claim; an `ack` publishes by `route`. Refused, NoTopic, Gap."""
        if not GROUP.fullmatch(group):
            raise Refused("a group's name has 1 to 64 letters, digits, _, - and .", status=400)
        if word == "claim":
            return await self.claim(topic, group, said, call)
        leases, queue = self.store.leases, queue_of(topic, group)
        if word == "seek":
            after = await self.place(topic, said.get("after", "-1"))
            await leases.seek(queue, after or (await self.store.log.head(topic)).last)
            return {}
        if word == "redrive":
            ids = said.get("ids")
            return {"done": await leases.redrive(queue, [clean(one, 1024) for one in ids] if isinstance(ids, list) else None)}
        if word not in ("ack", "nack", "extend", "term"):
            raise Refused(f"there is no :{word}", status=404, hint="claim, ack, nack, extend, term, seek, redrive")
        held = items(queue, said)
        published: dict[str, Any] = {}
        if word == "ack" and route is not None and any("publish" in one for one in said["items"]):
            await self.all_of("extend", held, {})
            published = {"published": await in_turn(route, exchange, queue, said["items"])}
        return {"done": await self.all_of(word, held, said), **published}

    async def all_of(self, word: str, held: list[Lease], said: dict[str, Any]) -> int:
        """One of the verbs with all of these; how many. Refused 409 when one of them is somebody else's by now."""
        try:
            done = await self.each(word, held, said)
        except Fenced as error:
            raise Refused(f"FENCED: {error}", status=409) from None
        if not all(done):
            lost = [lease.id for lease, good in zip(held, done) if not good]
            raise Refused(f"FENCED: {', '.join(lost[:10])} no longer yours", status=409)
        return len(done)

    async def each(self, word: str, held: list[Lease], said: dict[str, Any]) -> list[bool]:
        """ack, extend, nack, term."""
        leases = self.store.leases
        if word == "ack":
            return await leases.ack(held)
        if word == "extend":
            return await leases.extend(held, number(said, "ttl", self.ttl, LONGEST))
        for lease in held:
            if word == "term":
                await leases.term(lease, clean(said.get("reason", ""), 500))
            else:
                await leases.nack(lease, number(said, "delay", 0.0, 86400.0), clean(said.get("reason", ""), 500))
        return [True] * len(held)

    async def claim(self, topic: str, group: str, said: dict[str, Any], call: Call | None = None) -> dict[str, Any]:
        """Some items; with `wait` until there are some."""
        kind = forms.kind_of((await self.store.log.head(topic)).config.content_type)
        found, gap = await self.leased(topic, group, said, call)
        if call is not None and call.gone is not None:
            for lease in found:
                with suppress(Fenced):
                    await self.store.leases.nack(lease)
        skipped = {"gap": {"earliest": str(gap.earliest), "next": str(gap.latest)}} if gap is not None else {}
        return {"items": [shown(lease, kind) for lease in found], **skipped}

    async def leased(
        self, topic: str, group: str, said: dict[str, Any], call: Call | None = None
    ) -> tuple[list[Lease], Gap | None]:
        """The same as leases, and what the group lost."""
        queue = queue_of(topic, group)
        n, ttl = int(number(said, "n", 1, MOST)), number(said, "ttl", self.ttl, LONGEST)
        wait = number(said, "wait", 0.0, WAIT)
        await self.store.leases.feed(queue, topic, await self.place(topic, said.get("after")))
        loop = asyncio.get_running_loop()
        ends, there = loop.time() + wait, asyncio.Event()
        stop = self.hub.queue(queue, there.set) if wait else None
        if call is not None:
            call.on_left = there.set
        lost: Gap | None = None
        looked = False  # a client that closes its side with its request gets what is there
        try:
            while True:
                there.clear()
                if call is not None and (call.gone is not None or (call.left and looked)):
                    return [], lost
                looked = True
                try:
                    found = await self.store.leases.claim(queue, max(n, 1), ttl, clean(said.get("owner", ""), 128))
                except Gap as gap:
                    lost = gap
                    continue
                good = [lease for lease in found if not await self.spent(lease)]
                left = ends - loop.time()
                if good or left <= 0 or (call is not None and call.left):
                    return good, lost
                if found:
                    continue
                due = await self.store.leases.next_due(queue)
                pause = left if due is None else min(left, max(due - await self.store.now(), 0.005))
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await there.wait()
        finally:
            if stop is not None:
                stop()

    async def spent(self, lease: Lease) -> bool:
        """Claimed too often: a dead letter."""
        if lease.attempt <= self.attempts:
            return False
        with suppress(Fenced):
            await self.store.leases.term(lease, f"claimed {self.attempts} times and never acknowledged")
        return True


def shown(lease: Lease, kind: str) -> dict[str, Any]:
    """An item as its consumer sees it."""
    event = lease.event or Event(0, lease.body)
    said: dict[str, Any] = {"id": lease.id, "fence": lease.fence, "attempt": lease.attempt, "until": round(lease.until, 3)}
    if lease.offset is not None:
        said |= forms.described(event, kind, lease.offset.epoch) | {"o": str(lease.offset)}
    else:
        said |= forms.value_of(event, kind)
    return said


def items(queue: str, said: dict[str, Any]) -> list[Lease]:
    """The leases that a client names. Refused 400."""
    given = said.get("items")
    if not isinstance(given, list) or not given or len(given) > MOST:
        raise Refused(f'"items" is a list of 1 to {MOST} of {{"id", "fence"}}', status=400)
    found = []
    for one in given:
        good = isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("fence"), int)
        if not good or abs(one["fence"]) >> 63:
            raise Refused('each of "items" has "id" and "fence", as the claim said them', status=400)
        found.append(Lease(queue, clean(one["id"], 1024), one["fence"], 0, b"", 0.0))
    return found


def number(said: dict[str, Any], name: str, usual: float, most: float) -> float:
    """A number of a request, no more than `most`. Refused 400."""
    value = said.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value:
        raise Refused(f'"{name}" is a number', status=400)
    return float(min(value, most))


async def given(call: Call) -> dict[str, Any]:
    """The JSON object of a request's body; an empty body is an empty one. Refused 400."""
    body = await call.body(1 << 20)
    try:
        said = parsed(body) if body.strip() else {}
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}", status=400) from None
    if not isinstance(said, dict):
        raise Refused("the body is a JSON object", status=400)
    return said


async def told(call: Call, said: dict[str, Any], status: int = 200, more: list[tuple[bytes, bytes]] | None = None) -> None:
    """An answer in JSON."""
    fields = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *(more or ())]
    await call.respond(status, compact(said) + b"\n", fields + SECURITY)
