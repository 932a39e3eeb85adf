"""Redis, or Valkey, as the store: for several machines, in memory, with what its append-only file keeps.

- *Topics* are streams with ids of ours, `<seq>-0`; everything about an append (counter, epoch, dedupe, producer, trimming by count
  and bytes) is one script (`redislua`), and many callers' scripts go in one round trip (`redisline`).
- *Queues and keys* are sorted sets and hashes, by scripts too. Stream groups are not used: they have no priority, no delay
  and no fence.
- *Commands, not brands.* Only commands of Redis 6.2 are used, which Valkey has; what the server calls itself is only shown.
- *Hints* are published by the scripts on a channel for each topic and queue, and carry small events; a node subscribes to what its
  subscribers read. They may be lost, so every `POLL` seconds the truth is looked up, and at once when a subscription begins.
- *What an ack means* is read from the server's configuration: `appendonly` with `appendfsync always` is node+fsync, everysec is
  node, anything else memory. Replication is asynchronous: a fail-over may lose what was acknowledged.
- *Lost data* gets a new epoch: `run` remembers whose process the data was with. Another process (a restart, a replica that
  was promoted) means a new epoch for every topic, unless each write was synced and no other copy took over.
- *Time* is the server's TIME, never backwards, corrected by nodes that see it jump against what really passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from .clock import passed
from .contract import (
    Ack,
    Appended,
    Batch,
    Conflict,
    Dead,
    Declaration,
    Depth,
    Entry,
    Event,
    Gap,
    Head,
    Item,
    Lease,
    NewEvent,
    Offset,
    Producer,
    ProducerGap,
    StaleProducer,
    StoreError,
    TopicConfig,
)
from .facade import Front
from .groups import ended
from .redisanswers import (
    changed_key,
    entries_of,
    entry_of,
    event_of,
    flag,
    flags,
    float_of,
    head_of,
    lease_of,
    maybe,
    nets_of,
    offset_of,
    text_of,
)
from .redisline import DIRECT, FIRST, LONGEST, Line, Reach, away, trouble
from .redislua import SCRIPTS
from .redispairs import RedisPairs
from .rules import DEDUPE_WINDOW, changed, closed, fenced, moved, no_topic, other_config, stale_use, start
from .sqlfile import above
from .sqlread import config_text, purpose_of

log = logging.getLogger("fairlead")
PREFIX = "fairlead"
SWEEP = 0.5  # seconds between looks for what is too old or has become due
POLL = 5.0  # seconds between looks for what a lost hint would have said
JUMP = 1.0  # seconds by which the server's clock may differ from what passed before it is corrected
ALWAYS = 1 << 53  # the largest number that Lua counts exactly


class Redis(RedisPairs, Front):
    """The engine."""

    def __init__(self, url: str, ack: Ack | None = None, prefix: str = PREFIX, reach: Reach = DIRECT) -> None:
        Front.__init__(self)
        self.url, self.asked, self.prefix = url, ack, f"{{{prefix}}}:"
        self.line = Line(url, self.prefix, self.checked, reach)
        self.tasks: list[asyncio.Task[Any]] = []
        self.known: dict[str, Offset] = {}
        self.pubsub: Any = None
        self.changes: set[asyncio.Task[Any]] = set()
        self.poll_now = asyncio.Event()

    # ---- opening and closing

    async def open(self) -> Declaration:
        """See `Engine`."""
        try:
            declared = await self.declare()
            await self.line.look("now")
            self.tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.tend())]
            return declared
        except (RedisError, OSError) as error:
            await self.close()
            raise trouble(error) if isinstance(error, ResponseError) else away(error) from error
        except BaseException:
            await self.close()
            raise

    async def declare(self) -> Declaration:
        """What the server, as it is set up now, promises."""
        info, memory = (await self.line.send([("INFO", "server"), ("INFO", "memory")], 10.0))[0]
        name = "valkey" if "valkey_version" in info or info.get("server_name") == "valkey" else "redis"
        version = info.get("valkey_version", info.get("redis_version", "?"))
        notes = ["replication is asynchronous: a fail-over may lose what was acknowledged last"]
        if replicas := self.line.reach.replicas:
            told = f"each write waits for {replicas} of its replicas"
            notes = [f"{told}; a fail-over to another may still lose what was acknowledged last"]
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            notes.append(f"maxmemory-policy is {memory['maxmemory_policy']}: it must be noeviction, or data goes silently")
        ack = Ack.MEMORY
        found, _ = await self.line.send([("CONFIG GET", "appendonly"), ("CONFIG GET", "appendfsync")])
        if any(isinstance(one, StoreError) for one in found):
            notes.append("CONFIG GET is refused, so nothing is promised: allow CONFIG|GET to the user in store.url")
        else:
            config = {**found[0], **found[1]}
            if config.get("appendonly") != "yes":
                notes.append("appendonly is no: a restart loses what is newer than the last snapshot")
            elif config.get("appendfsync") == "always":
                ack = Ack.NODE_FSYNC
            elif config.get("appendfsync") == "everysec":
                ack = Ack.NODE
                notes.append("appendfsync is everysec: a crash of the machine loses about a second")
            else:
                notes.append("appendfsync is no: a crash of the machine loses what the system had not written")
        return Declaration(f"{name} {version}", ack, DEDUPE_WINDOW, shared=True, topics="as memory allows", notes=tuple(notes))

    async def checked(self, connection: Any) -> None:
        """A new connection: another process than the one whose data we knew may have lost some; then each topic has a new epoch.

        Nothing is lost by a restart when each write was synced, before (nobody noted `weak`) as well as now. A server that was
        a replica before has what had reached it.
        """
        await connection.send_command("INFO")
        info = text_of(await connection.read_response())
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        if fields.get("role") == "slave" and fields.get("cluster_enabled") != "1":  # there it says where its master is
            raise ReadOnlyError(f"the server at {self.line.place} is a replica")
        promoted = fields.get("master_replid2", "0").strip("0") != ""
        synced = fields.get("aof_enabled") == "1" and await self.always(connection)
        args = (f"{self.prefix}life", self.prefix, fields.get("run_id", "?"), flag(promoted), flag(not synced))
        await connection.send_command("EVAL", SCRIPTS["check"], 1, *args)
        if await connection.read_response() == b"1":
            log.warning("Redis was restarted or replaced and may have lost the newest: every topic has a new epoch")
        self.poll_now.set()

    async def always(self, connection: Any) -> bool:
        """Whether each write is synced. False when we may not know."""
        try:
            await connection.send_command("CONFIG", "GET", "appendfsync")
            return b"always" in await connection.read_response()
        except ResponseError:
            return False

    async def close(self) -> None:
        """See `Engine`."""
        await self.line.writes.finish()
        await ended([*self.tasks, *self.changes])
        if self.pubsub is not None:
            await _quietly(self.pubsub.aclose())
        await self.line.close()

    async def now(self) -> float:
        """See `Engine`."""
        return float((await self.line.look("now"))[0])

    # ---- asking

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return getattr(self, word)(*args)

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """See `Caller`: subscribe to its channel, or no longer."""
        had = name in self.minded[kind]
        super().mind(kind, name, wanted)
        if had == wanted:
            return
        if not wanted:
            self.known.pop(name, None)
        if self.pubsub is not None:
            task = asyncio.get_running_loop().create_task(self.change(self.pubsub, self.channel(kind, name), wanted))
            self.changes.add(task)
            task.add_done_callback(self.changes.discard)

    def channel(self, kind: str, name: str) -> str:
        """Where hints about it are published."""
        return f"{self.prefix}c:{kind[0]}:{name}"

    async def change(self, pubsub: Any, channel: str, wanted: bool) -> None:
        """One subscription more or less."""
        await _quietly(pubsub.subscribe(channel) if wanted else pubsub.unsubscribe(channel))

    # ---- topics

    async def append(self, topic: str, events: Sequence[NewEvent], producer: Producer | None, dedupe: str, close: bool,
                     create: TopicConfig | None, after: Offset | None) -> Appended:  # fmt: skip
        """See `Log.append`."""
        who = (producer.id, producer.epoch, producer.seq) if producer is not None else ("", "", "")
        if producer is not None and max(producer.epoch, producer.seq) > ALWAYS:
            raise StoreError("a producer's epoch and seq are at most 2^53", side="peer", status=400)
        at = tuple(after) if after is not None else ("", "")
        config = config_text(create) if create is not None else ""
        flat, size = _flat(events)
        args = (topic, *who, dedupe, flag(close), config, *at, DEDUPE_WINDOW, len(events), *flat)
        found = await self.line.write("append", *args, size=size)
        return _appended(topic, producer, [text_of(one) for one in found])

    async def create(self, topic: str, config: TopicConfig, events: Sequence[NewEvent], close: bool) -> tuple[Head, bool]:
        """See `Log.create`."""
        flat, size = _flat(events)
        text = config_text(config)
        word, row = await self.line.write("create", topic, text, flag(close), len(events), *flat, size=size)
        head = head_of(row)
        if word == b"there" and head.config != config:
            raise other_config(topic)
        return head, word == b"made"

    async def read(self, topic: str, after: Offset | None, max_events: int, max_bytes: int) -> Batch:
        """See `Log.read`."""
        at = tuple(after) if after is not None else ("", "")
        found = await self.line.look("read", topic, *at, max(max_events, 1), max_bytes)
        if not found:
            raise no_topic(topic)
        head = head_of(found[0])
        start(topic, after, head.first, head.last)
        if stale_use(head.config, float(found[1]), float(found[2])):
            await self.line.write("touch", topic)
        events = [event_of(one) for one in found[4]]
        complete = found[3] == b"1"
        reached = head.last if complete else Offset(head.last.epoch, events[-1].seq)
        return Batch(events, reached, complete, complete and head.closed)

    async def head(self, topic: str) -> Head:
        """See `Log.head`."""
        row = await self.line.look("head", topic)
        if not row:
            raise no_topic(topic)
        return head_of(row)

    async def trim(self, topic: str, before: Offset) -> Head:
        """See `Log.trim`."""
        word, *rest = await self.line.write("trim", topic, *before)
        if word == b"none":
            raise no_topic(topic)
        head = head_of(rest[0])
        if word == b"gap":
            start(topic, before, head.first, head.last)
        return head

    async def delete(self, topic: str) -> bool:
        """See `Log.delete`."""
        return await self.line.write("delete", topic) == b"1"

    async def touch(self, topic: str) -> None:
        """A read that somebody else did was a use of the topic."""
        await self.line.write("touch", topic)

    async def topics(self, prefix: str, after: str, limit: int) -> list[Head]:
        """See `Log.topics`."""
        return [head_of(row) for row in await self.line.look("topics", *_range(prefix, after), limit)]

    # ---- queues

    async def feed(self, queue: str, topic: str, after: Offset | None) -> None:
        """See `Leases.feed`."""
        word, *rest = await self.line.write("feed", queue, topic, *(after if after is not None else ("", "")))
        if word == b"none":
            raise no_topic(topic)
        if word == b"other":
            raise Conflict(f"queue {queue!r} is fed by topic {text_of(rest[0])!r}")
        if word == b"gap":
            head = head_of(rest[0])
            start(topic, after, head.first, head.last)

    async def seek(self, queue: str, after: Offset) -> None:
        """See `Leases.seek`."""
        word, *rest = await self.line.write("seek", queue, *after)
        if word == b"none":
            raise no_topic(text_of(rest[0]) or f"that feeds {queue}")
        if word == b"gap":
            head = head_of(rest[0])
            start(head.topic, after, head.first, head.last)

    async def put(self, queue: str, items: Sequence[Item]) -> list[bool]:
        """See `Leases.put`."""
        flat = [part for i in items for part in (i.id, bytes(i.body), repr(float(i.due)), i.priority)]
        return flags(await self.line.write("put", queue, *flat, size=sum(len(i.body) + 64 for i in items))) if items else []

    async def claim(self, queue: str, n: int, ttl: float, owner: str) -> list[Lease]:
        """See `Leases.claim`."""
        found = await self.line.write("claim", queue, n, ttl) if n > 0 else []
        if not found:
            return []
        if found[0] == b"gap":
            head = head_of(found[1])
            raise Gap(f"queue {queue!r}: events up to {head.first} are gone; it goes on after them", head.first, head.last)
        return [lease_of(queue, row) for row in found[1]]

    async def extend(self, leases: Sequence[tuple[str, str, int]], ttl: float) -> list[bool]:
        """See `Leases.extend`."""
        return flags(await self.line.write("extend", ttl, *(part for one in leases for part in one))) if leases else []

    async def ack(self, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        """See `Leases.ack`."""
        return flags(await self.line.write("ack", *(part for one in leases for part in one))) if leases else []

    async def nack(self, queue: str, item: str, fence: int, delay: float, reason: str, body: bytes | None) -> None:
        """See `Leases.nack`."""
        given = (flag(body is not None), bytes(body) if body is not None else "")
        if await self.line.write("nack", queue, item, fence, delay, *given) != b"1":
            raise fenced(queue, item)

    async def term(self, queue: str, item: str, fence: int, reason: str, event: Event | None = None) -> None:
        """See `Leases.term`. `event` is kept when the log has it no more."""
        kept: list[Any] = []
        if event is not None:
            flat, _ = _flat([NewEvent(event.data, event.type, event.key, event.headers)])
            kept = [repr(event.at), *flat]
        if await self.line.write("term", queue, item, fence, reason, *kept) != b"1":
            raise fenced(queue, item)

    async def dead(self, queue: str, after: str, limit: int) -> list[Dead]:
        """See `Leases.dead`."""
        rows = await self.line.look("dead", queue, after, limit)
        return [Dead(text_of(r[0]), r[1], int(r[2]), text_of(r[3]), float(r[4]), offset_of(r[5], r[6])) for r in rows]

    async def redrive(self, queue: str, ids: Sequence[str] | None) -> int:
        """See `Leases.redrive`."""
        return int(await self.line.write("redrive", queue, *(["*"] if ids is None else ["", *ids])))

    async def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """See `Leases.remove`."""
        return flags(await self.line.write("remove", queue, *ids)) if ids else []

    async def drop(self, queue: str) -> bool:
        """See `Leases.drop`."""
        return int(await self.line.write("drop", queue)) > 0

    async def depth(self, queue: str) -> Depth:
        """See `Leases.depth`."""
        found = await self.line.look("depth", queue)
        ready, delayed, leased, dead = (int(one) for one in found[:4])
        oldest, since = float_of(found[4]), float_of(found[7])
        fed, unread = int(found[5]), int(found[6])
        waiting = [one for one in (oldest, since) if one is not None]
        return Depth(queue, ready + unread, delayed, leased, dead, min(waiting, default=None), fed + unread)

    async def queues(self, prefix: str) -> list[str]:
        """See `Leases.queues`."""
        return [text_of(one) for one in await self.line.look("queues", *_range(prefix, ""))]

    async def next_due(self, queue: str) -> float | None:
        """See `Leases.next_due`."""
        return float_of(await self.line.look("next_due", queue))

    # ---- keys

    async def get(self, key: str) -> Entry | None:
        """See `State.get`."""
        return entry_of(await self.line.look("get", key))

    async def put_if(self, key: str, value: bytes, version: int | None, ttl: float | None, due: float | None) -> Entry:
        """See `State.put_if`."""
        some = [maybe(version), maybe(ttl), maybe(due)]
        return changed_key(key, value, await self.line.write("put_if", key, purpose_of(key), *some, bytes(value), size=len(value)))

    async def delete_if(self, key: str, version: int | None) -> bool:
        """See `State.delete_if`."""
        word, *rest = await self.line.write("delete_if", key, purpose_of(key), maybe(version))
        if word == b"other":
            raise changed(key, entry_of(rest))
        return word == b"gone"

    async def scan(self, prefix: str, after: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan`."""
        return entries_of(await self.line.look("scan", *_range(prefix, after), limit))

    async def scan_due(self, prefix: str, limit: int) -> list[tuple[str, Entry]]:
        """See `State.scan_due`. A prefix without a slash goes over several purposes, so all their keys are looked at."""
        purpose, slash, _ = prefix.partition("/")
        if slash:
            return entries_of(await self.line.look("scan_due", prefix, purpose + slash, limit))
        found, after, now = [], "", await self.now()
        while page := await self.scan(prefix, after, 1000):
            found += [(entry.due, key, entry) for key, entry in page if entry.due is not None and entry.due <= now]
            after = page[-1][0]
        return [(key, entry) for _, key, entry in sorted(found, key=lambda one: one[:2])[:limit]]

    # ---- hints

    async def listen(self) -> None:
        """Keeps one connection that is subscribed to what matters, whatever happens to it."""
        pause = FIRST
        while True:
            pubsub: Any = None
            try:
                pubsub = (await self.line.master()).pubsub()
                channels = [self.channel(kind, name) for kind, names in self.minded.items() for name in names]
                self.pubsub = pubsub  # changes from now on go there themselves
                await pubsub.subscribe(f"{self.prefix}c", *channels)
                while True:
                    message = await pubsub.get_message(timeout=None)
                    if message is not None:
                        pause = FIRST
                        self.heard(message["type"], message["channel"], message["data"])
            except (RedisError, OSError, RuntimeError, AttributeError) as error:  # the last: closed meanwhile, we moved
                log.debug("hints are interrupted: %s", error)
                self.pubsub = None
                if pubsub is not None:
                    await _quietly(pubsub.aclose())
                self.poll_now.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    def heard(self, kind: str, channel: bytes, data: Any) -> None:
        """A script, or the server, says."""
        what, _, name = text_of(channel).removeprefix(f"{self.prefix}c:").partition(":")
        if kind == "subscribe":
            if name:
                self.poll_now.set()  # what came before we listened
        elif kind == "message" and what == "q":
            self.tell((), [name])
        elif kind == "message" and what == "t":
            texts = nets_of(data)
            last = Offset(int(texts[0]), int(texts[1]))
            events = [event_of(texts[n : n + 6]) for n in range(2, len(texts), 6)]
            self.ahead(name, last, events)

    def ahead(self, topic: str, last: Offset, events: Sequence[Event] = ()) -> None:
        """A topic's newest offset as it is said. Twice the same is a close, which is news as well."""
        if topic in self.minded["topic"] and self.known.get(topic, Offset(0, 0)) <= last:
            self.known[topic] = last
            self.tell([(topic, last, lambda: events)], ())

    # ---- what goes on by itself

    async def tend(self) -> None:
        """Sweeps, polls, and watches the server's clock."""
        since, polled, swept = "0", 0.0, 0.0
        sample: tuple[float, float, bytes] | None = None
        while True:
            try:
                await asyncio.wait_for(self.poll_now.wait(), SWEEP)
            except TimeoutError:
                pass
            whole = self.poll_now.is_set() or passed() - polled >= POLL
            self.poll_now.clear()
            try:
                sample = await self.watch_clock(sample)
                if whole:
                    polled = passed()
                    await self.poll_topics()
                if self.minded["queue"]:
                    found, names = await self.line.look("became", since, flag(whole), *self.minded["queue"])
                    since = text_of(found)
                    self.tell((), [text_of(name) for name in names])
                if passed() - swept >= SWEEP:
                    swept = passed()
                    while await self.line.write("sweep") == b"1":
                        await asyncio.sleep(0)
            except StoreError as error:
                log.debug("the store's sweep failed: %s", error)
                await asyncio.sleep(SWEEP)

    async def poll_topics(self) -> None:
        """What a lost hint would have said."""
        names = list(self.minded["topic"])
        for at in range(0, len(names), 1000):
            for name, epoch, last in await self.line.look("ends", *names[at : at + 1000]):
                offset = Offset(int(epoch), int(last))
                if self.known.get(text_of(name), Offset(0, 0)) < offset:
                    self.ahead(text_of(name), offset)

    async def watch_clock(self, before: tuple[float, float, bytes] | None) -> tuple[float, float, bytes] | None:
        """Sees the server's clock jump against what passed here, and corrects it for all nodes; the first who sees it does."""
        begun = passed()
        _, seconds, micros, shift = await self.line.look("now")
        if passed() - begun > JUMP / 4:
            return before
        raw = int(seconds) + int(micros) / 1e6
        if before is not None and before[2] == shift:
            jump = (raw - before[0]) - (begun - before[1])
            if abs(jump) > JUMP:
                log.warning("the server's clock jumped by %.1f s; leases and expiry do not follow", jump)
                await self.line.write("shift", shift, jump)
                return None
        return raw, begun, shift


async def _quietly(doing: Awaitable[Any]) -> None:
    """Whatever comes of it."""
    try:
        await doing
    except (RedisError, OSError, RuntimeError, AttributeError):
        pass


def _range(prefix: str, after: str) -> tuple[str, str]:
    """Bounds of names that begin so and come after that, as BYLEX takes them."""
    upper = above(prefix)
    low = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
    return low, f"({upper}" if upper else "+"


def _flat(events: Sequence[NewEvent]) -> tuple[list[Any], int]:
    """Events as they are sent, and about how many bytes that is."""
    flat: list[Any] = []
    size = 0
    for data, kind, key, headers in events:
        flat += (bytes(data), kind, key, json.dumps(dict(headers)) if headers else "")
        size += len(data) + 64
    return flat, size


def _appended(topic: str, producer: Producer | None, found: list[str]) -> Appended:
    """What the script said of an append. The contract's errors."""
    word = found[0]
    if word == "ok":
        return Appended(Offset(int(found[1]), int(found[2])), int(found[3]), found[4] == "1", found[5] == "1")
    if word == "none":
        raise no_topic(topic)
    if word == "closed":
        raise closed(topic, Offset(int(found[1]), int(found[2])))
    if word == "moved":
        raise moved(topic, Offset(int(found[1]), int(found[2])))
    assert producer is not None
    if word == "stale":
        text = f"producer {producer.id!r} has a newer epoch, {found[1]}; {producer.epoch} may append no more"
        raise StaleProducer(text, int(found[1]))
    text = f"producer {producer.id!r} epoch {producer.epoch}: seq {found[1]} is next, not {producer.seq}"
    raise ProducerGap(text, int(found[1]), producer.seq, int(found[2]) if found[2] else None)


def make(url: str, ack: Ack | None = None) -> Redis:
    """See `store.open`. `?prefix=`, `?sentinel=`, `?sentinel_password=`, `?replicas=` are ours, other options the driver's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = options.pop("prefix", PREFIX)
    if not prefix or set("{}\0") & set(prefix):
        raise StoreError(f"?prefix={prefix}: write a text without braces")
    replicas = options.pop("replicas", "0")
    if not replicas.isdigit():
        raise StoreError(f"?replicas={replicas}: write how many replicas must have a write before it is answered")
    reach = Reach(options.pop("sentinel", ""), options.pop("sentinel_password", ""), int(replicas))
    try:
        engine = Redis(urlunsplit(parts._replace(query=urlencode(options))), ack, prefix, reach)
        engine.line.made(engine.line.named[0]).connection_pool.make_connection()
    except (TypeError, ValueError) as error:
        hint = "redis[s]://[USER:PASSWORD@]HOST[:PORT][,HOST…][/DATABASE][?OPTION=VALUE]; options are ours or the driver's"
        raise StoreError(f"{without_password(url)}: {error}", hint=hint) from error
    return engine


def without_password(url: str) -> str:
    """The URL up to its options, without who we are."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
