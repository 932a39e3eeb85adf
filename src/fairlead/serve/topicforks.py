"""Forks of Durable Streams: a topic that begins with what another one had, and goes its own way from there.

    PUT  Stream-Forked-From: /path/of/source      from its end, or
         Stream-Fork-Offset: o                    after this offset of it, and
         Stream-Fork-Sub-Offset: n                so many events (JSON) or bytes of the next event (else) beyond

Rules
1. What is inherited is copied when the fork is made, in the same append as its first own events: so it is bounded (`COPY_EVENTS`,
   `COPY_BYTES`, else 413), and trimming, expiry or deletion of the source changes nothing in the fork.
2. An offset of the source up to where it was forked means the same place in the fork, unless the source had holes there.
3. A source that is deleted while forks of it live is 410 and cannot be made anew; with the last of them it is simply not there.
   Nothing is collected for that: who asks looks whether a fork is left.
4. The note of a fork is written before the fork is made: a crash between leaves a note that means nothing, and a repeat heals it.
5. Producers of the source are not known in the fork.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from fairlead.core.errors import Refused
from fairlead.serve import topicforms as forms
from fairlead.serve.topicwords import NUMBER
from fairlead.store.contract import Event, Head, NewEvent, NoTopic, Offset, Store, TopicConfig

COPY_EVENTS = 100_000
COPY_BYTES = 64 << 20
CHAIN = 1000  # deleted topics looked at for a fork that lives
NOTE, OF, GONE = "topicfork/", "topicforks/", "topicgone/"


def name(topic: str) -> str:
    """A topic's name as a part of a key."""
    return quote(topic, safe="")


def source_of(given: dict[str, str], topic: str, path: str) -> str | None:
    """The topic that a PUT of `topic` at `path` forks, None when it forks none. Refused 400, 404 for no topic of this route."""
    source = given.get("stream-forked-from")
    if source is None:
        if "stream-fork-sub-offset" in given or "stream-fork-offset" in given:
            raise Refused("Stream-Fork-Offset and Stream-Fork-Sub-Offset go with Stream-Forked-From", status=400)
        return None
    before, _, last = unquote(source).rpartition("/")
    if path.rstrip("/").rpartition("/")[::2] != (before, topic) or not last or last.startswith("$"):
        raise Refused("Stream-Forked-From is the path of a topic beside this one", status=404)
    return last


def asked_of(given: dict[str, str]) -> tuple[str, int]:
    """(offset as it was written, sub-offset). Refused 400."""
    sub = given.get("stream-fork-sub-offset", "0")
    if not NUMBER.fullmatch(sub):
        raise Refused("Stream-Fork-Sub-Offset is a whole number", status=400)
    at = given.get("stream-fork-offset", "")
    if int(sub) and not at:
        raise Refused("Stream-Fork-Sub-Offset goes with Stream-Fork-Offset", status=400)
    return at, int(sub)


def place_of(text: str, head: Head) -> Offset:
    """Where in the source a fork begins. Refused 400."""
    if not text:
        return head.last
    if text in ("-1", "earliest") or not text.strip("0_"):
        return head.first
    with suppress(ValueError):
        at = Offset.parse(text)
        if at.epoch == head.last.epoch and head.first.seq <= at.seq <= head.last.seq:
            return at
    raise Refused(f"the source has no such offset: {text[:64]!r}; {head.first} to {head.last} is there", status=400)


class Forks:
    """The forks of a store's topics."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def note(self, topic: str) -> tuple[dict[str, Any], int]:
        """(what is noted of a fork, the note's version); ({}, 0) for a topic that is none."""
        entry = await self.store.state.get(NOTE + name(topic))
        return (json.loads(entry.value), entry.version) if entry is not None else ({}, 0)

    async def put(
        self, topic: str, source: str, given: dict[str, str], config: TopicConfig, own: list[NewEvent], close: bool
    ) -> tuple[Head, bool]:
        """Makes the fork; (head, False) when it was there, made by the same words. Refused, NoTopic."""
        at_text, sub = asked_of(given)
        asked = {"source": source, "asked": at_text, "sub": sub}
        try:
            head = await self.store.log.head(topic)
        except NoTopic:
            pass
        else:
            note, _ = await self.note(topic)
            same = note.get("epoch") in (0, head.last.epoch) and all(note.get(key) == asked[key] for key in asked)
            if not same or head.config.content_type != config.content_type:
                raise Refused("this topic is there with another configuration", status=409)
            return head, False
        if await self.gone(source):
            raise Refused("the source was deleted", status=409)
        origin = await self.store.log.head(source)
        if forms.media_type(origin.config.content_type) != forms.media_type(config.content_type):
            raise Refused(f"the source is {origin.config.content_type}, not {config.content_type}", status=409)
        at = place_of(at_text, origin)
        copied = await self.copied(source, origin, at)
        extra = await self.beyond(source, at, sub, forms.kind_of(config.content_type))
        whole = at.seq - origin.first.seq == len(copied)
        note = asked | {"epoch": 0, "of": origin.last.epoch, "first": origin.first.seq, "at": at.seq, "whole": whole}
        await self.store.state.put_if(NOTE + name(topic), json.dumps(note).encode(), None)
        await self.store.state.put_if(f"{OF}{name(source)}/{origin.last.epoch}/{name(topic)}", b"", None)
        head, made = await self.store.log.create(topic, config, [*copied, *extra, *own], close)
        if made:
            note["epoch"] = head.last.epoch
            await self.store.state.put_if(NOTE + name(topic), json.dumps(note).encode(), None)
        return head, made

    async def inherits(self, source: str) -> TopicConfig:
        """The source's configuration: what a fork's request leaves open is as there. Refused 409, NoTopic."""
        if await self.gone(source):
            raise Refused("the source was deleted", status=409)
        return (await self.store.log.head(source)).config

    async def copied(self, source: str, origin: Head, at: Offset) -> list[NewEvent]:
        """The source's events up to `at`. Refused 413."""
        found: list[NewEvent] = []
        size, after = 0, origin.first
        while after.seq < at.seq:
            batch = await self.store.log.read(source, after)
            for event in batch.events:
                if event.seq <= at.seq:
                    found.append(new(event))
                    size += len(event.data)
            if len(found) > COPY_EVENTS or size > COPY_BYTES:
                raise Refused(
                    f"the source has more than {COPY_EVENTS} events or {COPY_BYTES >> 20} MiB up to there", status=413
                )
            if batch.next == after:
                break
            after = batch.next
        return found

    async def beyond(self, source: str, at: Offset, sub: int, kind: str) -> list[NewEvent]:
        """`sub` events, or bytes of one event, behind `at`. Refused 400 when there are not so many."""
        if not sub:
            return []
        most = min(sub, COPY_EVENTS) if kind == forms.JSON else 1
        batch = await self.store.log.read(source, at, most, COPY_BYTES)
        if kind == forms.JSON:
            if len(batch.events) < sub:
                raise Refused(f"only {len(batch.events)} events follow that offset, not {sub}", status=400)
            return [new(event) for event in batch.events]
        if not batch.events or len(batch.events[0].data) < sub:
            raise Refused("the event behind that offset is not so long", status=400)
        return [new(batch.events[0])._replace(data=batch.events[0].data[:sub])]

    async def translated(self, topic: str, head: Head, after: Offset) -> Offset:
        """An offset of another topic's epoch as the fork's own, if it is one of its source's; else as it is."""
        note, _ = await self.note(topic)
        if note.get("of") != after.epoch or note.get("epoch") != head.last.epoch or not note.get("whole"):
            return after
        place = after.seq - int(note["first"])
        return Offset(head.last.epoch, place) if place >= 0 and after.seq <= int(note["at"]) else after

    async def deleting(self, topic: str) -> None:
        """Before a topic is deleted: remember it for as long as forks of it live. NoTopic."""
        head = await self.store.log.head(topic)
        if await self.living(topic, head.last.epoch):
            await self.store.state.put_if(GONE + name(topic), b"%d" % head.last.epoch, None)

    async def gone(self, topic: str) -> bool:
        """Was it deleted while forks of it live still?"""
        return await self.lives_on(topic, {topic})

    async def lives_on(self, topic: str, seen: set[str]) -> bool:
        """The same; the memory of one without living forks is let go."""
        entry = await self.store.state.get(GONE + name(topic))
        if entry is None:
            return False
        if await self.living(topic, int(entry.value), seen):
            return True
        await self.store.state.delete_if(GONE + name(topic))
        return False

    async def living(self, topic: str, epoch: int, seen: set[str] | None = None) -> bool:
        """Is there a fork of it, or a fork of a deleted fork? What is noted of others is let go."""
        seen = {topic} if seen is None else seen
        prefix = f"{OF}{name(topic)}/{epoch}/"
        while keys := await self.store.state.scan(prefix, limit=100):
            for key, _ in keys:
                fork = unquote(key.removeprefix(prefix))
                try:
                    await self.store.log.head(fork)
                    return True
                except NoTopic:
                    if fork not in seen and len(seen) < CHAIN and await self.lives_on(fork, seen | {fork}):
                        return True
                await self.store.state.delete_if(key)
        return False


def new(event: Event) -> NewEvent:
    """An event, to be appended elsewhere."""
    return NewEvent(event.data, event.type, event.key, event.headers)

