"""PostgreSQL as the store: for several machines, with what an operator already runs and backs up.

- *Group commit.* Appends of many callers go to the server as one statement (`fl_append` in `pgsql`) while the previous one commits;
  so do puts, acknowledgements and keys, each kind on its own. A sync of the disk is shared by all of a group.
- *Nothing twice.* Whatever changes something has a number that is committed with it, and so has its answer. When the connection
  breaks, the same is sent again and the server knows: appends, claims, acknowledgements and keys survive a restart of the
  server without an error and without being done twice.
- *Hints* are NOTIFYs on one connection for each node, sent after the commit and batched: a NOTIFY inside a transaction would
  make all commits of the database wait for each other. They may be lost, so every `POLL` seconds the truth is looked up.
- *What an ack means* is read from the server: `fsync`, `synchronous_commit`, `synchronous_standby_names`. We ask for durable
  commits ourselves (a session may), unless less was asked for.
- *Lost data* gets a new epoch: after a crash where commits were not durable, after a fail-over to a standby, after a restore
  (`checked`).
- *Time* is the server's, corrected by nodes that see it jump against what really passed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from .clock import passed
from .contract import Ack, Declaration, Event, Offset, StoreError
from .facade import Front
from .groups import Group, ended
from .pglines import FIRST, LONGEST, Lines
from .pgpairs import PgPairs
from .pgsql import ANEW, FUNCTIONS, MIGRATIONS, VERSION
from .rules import DEDUPE_WINDOW

log = logging.getLogger("fairlead")
POOL = 4  # connections for everything but appends and hints, which have one each
SWEEP = 0.5  # seconds between looks for what is too old or has become due
POLL = 5.0  # seconds between looks for what a lost hint would have said
JUMP = 1.0  # seconds by which the server's clock may differ from what passed before it is corrected
CARRIED = 3000  # bytes of events that a NOTIFY carries for one topic
PAYLOAD = 7800  # bytes of a NOTIFY: the server's limit is 8000
BECAME = """
SELECT name FROM queues q WHERE name = ANY ($1) AND (
  EXISTS (SELECT 1 FROM items i WHERE i.queue = q.id AND i.state IN (1, 2) AND i.at > $2 AND i.at <= $3) OR
  ($4 AND EXISTS (SELECT 1 FROM items i WHERE i.queue = q.id AND (i.state = 0 OR (i.state IN (1, 2) AND i.at <= $3)))) OR
  ($4 AND EXISTS (SELECT 1 FROM topics t WHERE t.name = q.topic AND (t.epoch <> q.epoch OR t.last > q.cursor))))"""


class Postgres(PgPairs, Front):
    """The engine."""

    def __init__(self, dsn: str, ack: Ack | None = None, schema: str = "fairlead", pool: int = POOL) -> None:
        self.dsn, self.asked, self.schema = dsn, ack, schema
        settings = {
            "search_path": schema,
            "synchronous_commit": "off" if ack is Ack.MEMORY else "on",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "30s",
            "jit": "off",
        }
        lines, writer = Lines(dsn, settings, pool, self.checked), Lines(dsn, settings, 1, self.checked)
        PgPairs.__init__(self, lines, writer)
        Front.__init__(self)
        self.bell_lines = Lines(dsn, {**settings, "synchronous_commit": "off"}, 1, self.listening)
        self.bells = Group(self.ring)
        self.tasks: list[asyncio.Task[None]] = []
        self.known: dict[str, Offset] = {}  # the newest offsets that were told, of topics of interest
        self.pid = 0
        self.ready = False
        self.durable = True  # commits survive a crash of the server
        self.poll_now = asyncio.Event()
        self.fed: dict[str, list[str]] = {}  # queues of interest by the topic that feeds them

    # ---- opening and closing

    async def open(self) -> Declaration:
        """See `Engine`."""
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", self.schema):
            raise StoreError(f"schema {self.schema!r}: write small letters, digits and _ only")
        try:
            declared = await self.lines.ask(self.prepare)
            self.ready = True
            self.tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.tend())]
            return declared
        except BaseException:
            await self.close()
            raise

    async def prepare(self, line: asyncpg.Connection) -> Declaration:
        """The tables, and what the server promises."""
        if await line.fetchval("SELECT pg_is_in_recovery()"):
            raise StoreError("this PostgreSQL is a standby: it only reads", hint="name the primary in store.url")
        await self.migrate(line)
        declared = await self.declare(line)
        await self.checked(line, True)
        return declared

    async def migrate(self, line: asyncpg.Connection) -> None:
        """Makes the tables, or brings them to this version. One node at a time."""
        async with line.transaction():
            await line.execute("SELECT pg_advisory_xact_lock(hashtext('fairlead migration'))")
            await line.execute("SET LOCAL client_min_messages = warning; SET LOCAL check_function_bodies = off")
            if await line.fetchval("SELECT to_regnamespace($1) IS NULL", self.schema):
                await line.execute(f"CREATE SCHEMA {self.schema}")
            if await line.fetchval("SELECT to_regclass($1) IS NULL", f"{self.schema}.meta"):
                await line.execute("CREATE TABLE meta (version integer NOT NULL, functions text NOT NULL)")
                await line.execute("INSERT INTO meta VALUES (0, '')")
            version, functions = await line.fetchrow("SELECT version, functions FROM meta FOR UPDATE")
            if version > VERSION:
                hint = "run the newer Fairlead, or name another schema: ?schema="
                raise StoreError(f"schema {self.schema} is of a newer Fairlead (version {version})", hint=hint)
            for step in MIGRATIONS[version:]:
                await line.execute(step)
            if version < VERSION or functions != FUNCTIONS:
                await line.execute(FUNCTIONS)
                await line.execute("UPDATE meta SET version = $1, functions = $2", VERSION, FUNCTIONS)

    async def declare(self, line: asyncpg.Connection) -> Declaration:
        """What the server, as it is set up now, promises."""
        names = ("server_version", "fsync", "full_page_writes", "synchronous_standby_names")
        found = {name: await line.fetchval("SELECT current_setting($1)", name) for name in names}
        syncs, standbys = found["fsync"] == "on", bool(found["synchronous_standby_names"].strip())
        notes = []
        if not syncs:
            notes.append("fsync = off: a crash of the machine loses and damages data")
        if syncs and found["full_page_writes"] != "on":
            notes.append("full_page_writes = off: a crash of the machine may damage data")
        if self.asked is Ack.MEMORY:
            ack = Ack.MEMORY
            notes.append('store.ack = "memory": commits are not waited for')
        elif standbys:
            ack = Ack.QUORUM_FSYNC if syncs else Ack.QUORUM
        else:
            ack = Ack.NODE_FSYNC if syncs else Ack.NODE
        if not standbys:
            notes.append("synchronous_standby_names is empty: a fail-over may lose what was acknowledged last")
        self.durable = syncs and ack is not Ack.MEMORY
        name = f"postgresql {found['server_version'].split()[0]}"
        return Declaration(name, ack, DEDUPE_WINDOW, outbox=True, shared=True, notes=tuple(notes))

    async def checked(self, line: asyncpg.Connection, first: bool = False) -> None:
        """Whether this is the database that we knew, with all that was acknowledged; else every topic gets a new epoch.

        `alive` is empty after a crash: then what was not durable is lost. Another timeline without synchronous standbys is a
        fail-over or a restore to a point in time, another system a restore into another server: all may have lost the newest.
        """
        if not (self.ready or first):
            return
        sql = """SELECT (SELECT count(*) FROM alive), (SELECT system_identifier::text FROM pg_control_system()),
                 left(pg_walfile_name(pg_current_wal_lsn()), 8), current_setting('synchronous_standby_names') <> ''"""
        alive, system, timeline, quorum = await line.fetchrow(sql)
        if alive and await line.fetchval("SELECT system = $1 AND timeline = $2 FROM facts", system, timeline):
            if not self.durable:
                await line.execute("UPDATE facts SET weak = true WHERE NOT weak")
            return
        async with line.transaction():
            await line.execute("LOCK TABLE facts")
            old = await line.fetchrow("SELECT system, timeline, weak FROM facts")
            still = await line.fetchval("SELECT count(*) FROM alive")
            lost = old is not None and (
                old[0] != system or (old[1] != timeline and not quorum) or (old[2] and not still)
            )
            if old is None:
                await line.execute("INSERT INTO facts (floor, system, timeline, weak) VALUES (0, $1, $2, $3)",
                                   system, timeline, not self.durable)  # fmt: skip
            if lost:
                log.warning("PostgreSQL may have lost what was acknowledged last: every topic has a new epoch")
                await line.execute(ANEW)
                await line.execute("DELETE FROM journal")
            await line.execute(
                "UPDATE facts SET system = $1, timeline = $2, weak = $3", system, timeline, not self.durable
            )
            await line.execute("INSERT INTO alive DEFAULT VALUES ON CONFLICT DO NOTHING")

    async def close(self) -> None:
        """See `Engine`."""
        for group in (self.appends, self.puts, self.acks, self.keys, self.enqueues, self.settles, self.bells):
            await group.finish()
        await ended(self.tasks)
        idle = [*self.lines.idle, *self.writer.idle]
        if self.ready and (self.number or self.made) and idle and not self.writer.closed:
            try:
                await idle[-1].execute("DELETE FROM journal WHERE caller = $1 OR caller LIKE $1 || '/%'", self.caller)
            except Exception:
                pass
        for lines in (self.lines, self.writer, self.bell_lines):
            await lines.close()
        self.ready = False

    async def now(self) -> float:
        """See `Engine`."""
        return await self.value("SELECT fl_now()")

    # ---- asking

    def call(self, word: str, *args: Any) -> Awaitable[Any]:
        """See `Caller`."""
        return getattr(self, word)(*args)

    def mind(self, kind: str, name: str, wanted: bool) -> None:
        """See `Caller`."""
        super().mind(kind, name, wanted)
        if kind == "topic" and not wanted:
            self.known.pop(name, None)
        if kind == "queue" and wanted:
            self.poll_now.set()  # which topic feeds it is looked up

    # ---- hints

    def told(self, news: dict[str, tuple[Offset, list[Event]]]) -> None:
        """Something was appended here: tell those who listen here, and the other nodes."""
        for topic, (last, _) in news.items():
            if topic in self.minded["topic"]:
                self.known[topic] = last
        given = [(topic, last, partial(tuple, events)) for topic, (last, events) in news.items()]
        self.tell(given, [queue for topic in news for queue in self.fed.get(topic, ())])
        for topic, (last, events) in news.items():
            self.bells.add(("t", topic, (last, events)))

    def stir(self, *queues: str) -> None:
        """These queues have something."""
        self.tell((), queues)
        for queue in queues:
            self.bells.add(("q", queue, None))

    def newly_fed(self) -> None:
        """A queue is fed now: every node looks which."""
        self.poll_now.set()
        self.bells.add(("f", "", None))

    async def listening(self, line: asyncpg.Connection) -> None:
        """A connection that hears the other nodes."""
        await line.add_listener(self.schema, self.heard)
        self.pid = line.get_server_pid()
        self.poll_now.set()  # what came while nobody listened

    async def listen(self) -> None:
        """Keeps one connection that listens, whatever happens to it."""
        pause = FIRST
        while True:
            try:
                line = await self.bell_lines.ask(_itself)
                pause = FIRST
                gone = asyncio.Event()
                line.add_termination_listener(lambda _, gone=gone: gone.set())
                if not line.is_closed():
                    await gone.wait()
            except StoreError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    async def ring(self, bells: Sequence[Any]) -> list[None]:
        """Tell the other nodes what happened here, in as few NOTIFYs as it fits in. Who rings need not be told that it failed."""
        topics: dict[str, tuple[Offset, list[Event]]] = {}
        for kind, name, what in bells:
            if kind == "t":
                before = topics[name][1] if name in topics else []
                topics[name] = (what[0], [*before, *what[1]])
        queues = {name for kind, name, _ in bells if kind == "q"}
        fed: list[Any] = [("f",)] if any(kind == "f" for kind, _, _ in bells) else []
        payloads: list[str] = []
        room, said = PAYLOAD, list[Any]()
        news: list[Any] = [("t", name, *last, _small(events)) for name, (last, events) in topics.items()]
        for one in [*news, *[("q", name) for name in queues], *fed]:
            size = len(json.dumps(one)) + 2
            if size > room and said:
                payloads.append(json.dumps(said))
                room, said = PAYLOAD, []
            room -= size
            said.append(one if size < PAYLOAD else ("*",))  # too large a name: everybody looks
        payloads.append(json.dumps(said))
        sql = "SELECT pg_notify($1, p) FROM unnest($2::text[]) p"
        try:
            await self.bell_lines.ask(lambda line: line.fetch(sql, self.schema, payloads))
        except StoreError:
            log.debug("hints could not be sent; the other nodes poll")
        return [None] * len(bells)

    def heard(self, _: Any, pid: int, channel: str, payload: str) -> None:
        """Another node says."""
        if pid == self.pid:
            return
        try:
            for kind, *what in json.loads(payload):
                if kind == "t":
                    self.ahead(what[0], Offset(what[1], what[2]), what[3])
                elif kind == "q":
                    self.tell((), [what[0]])
                elif kind == "f":
                    self.poll_now.set()
                else:
                    self.poll_now.set()
        except (ValueError, TypeError, IndexError):
            self.poll_now.set()

    def ahead(self, topic: str, last: Offset, events: Sequence[Any] = ()) -> None:
        """A topic's newest offset as somebody else says it, and perhaps the events up to it."""
        if topic in self.minded["topic"] and self.known.get(topic, Offset(0, 0)) < last:
            self.known[topic] = last
            self.tell([(topic, last, partial(_large, events))], ())
        self.tell((), self.fed.get(topic, ()))

    # ---- what goes on by itself

    async def tend(self) -> None:
        """Sweeps, polls, and watches the server's clock."""
        before, polled, swept = await self.try_now(), 0.0, 0.0
        sample: tuple[float, float, float] | None = None
        while True:
            try:
                await asyncio.wait_for(self.poll_now.wait(), SWEEP)
            except TimeoutError:
                pass
            asked, whole = self.poll_now.is_set(), passed() - polled >= POLL
            self.poll_now.clear()
            try:
                sample = await self.watch_clock(sample)
                now = await self.now()
                if asked or whole:
                    polled = passed()
                    await self.poll_topics()
                if self.minded["queue"]:
                    names = list(self.minded["queue"])
                    self.tell((), [row[0] for row in await self.rows(BECAME, names, before, now, asked or whole)])
                before = now
                if passed() - swept >= SWEEP:
                    swept = passed()
                    while await self.value("SELECT fl_sweep($1)", DEDUPE_WINDOW):
                        await asyncio.sleep(0)
            except StoreError as error:
                log.debug("the store's sweep failed: %s", error)
                await asyncio.sleep(SWEEP)

    async def try_now(self) -> float:
        """The time, 0 when the server is away."""
        try:
            return await self.now()
        except StoreError:
            return 0.0

    async def poll_topics(self) -> None:
        """What a lost hint would have said; which topics feed the queues that matter here."""
        if self.minded["queue"]:
            fed: dict[str, list[str]] = {}
            sql = "SELECT topic, name FROM queues WHERE topic IS NOT NULL AND name = ANY ($1)"
            for topic, queue in await self.rows(sql, list(self.minded["queue"])):
                fed.setdefault(topic, []).append(queue)
            self.fed = fed
        if self.minded["topic"]:
            sql = "SELECT name, epoch, last FROM topics WHERE name = ANY ($1)"
            for name, epoch, last in await self.rows(sql, list(self.minded["topic"])):
                if name in self.minded["topic"] and self.known.get(name, Offset(0, 0)) < (epoch, last):
                    self.known[name] = Offset(epoch, last)
                    self.tell([(name, Offset(epoch, last), list)], ())

    async def watch_clock(self, before: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        """Sees the server's clock jump against what passed here, and corrects it for all nodes; the first who sees it does."""
        begun = passed()
        row = await self.row("SELECT extract(epoch FROM clock_timestamp())::float8, shift FROM clock")
        ended = passed()
        if row is None or ended - begun > JUMP / 4:
            return before
        raw, shift = row
        if before is not None and before[2] == shift:
            jump = (raw - before[0]) - (begun - before[1])
            if abs(jump) > JUMP:
                log.warning("the server's clock jumped by %.1f s; leases and expiry do not follow", jump)
                await self.rows("UPDATE clock SET shift = shift - $1 WHERE shift = $2", jump, shift)
                return None
        return raw, begun, shift


def _small(events: Sequence[Event]) -> list[Any]:
    """Events as a hint carries them, if they are small and follow each other; else none."""
    room = CARRIED - sum(len(event.data) + len(event.type) + len(event.key) for event in events)
    follow = all(event.seq == events[0].seq + n for n, event in enumerate(events))
    if room < 0 or not follow:
        return []
    return [[e.seq, base64.b64encode(e.data).decode(), e.type, e.key, e.at, dict(e.headers)] for e in events]


def _large(rows: Sequence[Any]) -> list[Event]:
    """The inverse."""
    return [Event(seq, base64.b64decode(data), kind, key, at, headers) for seq, data, kind, key, at, headers in rows]


async def _itself(line: asyncpg.Connection) -> asyncpg.Connection:
    """The connection."""
    return line


def make(url: str, ack: Ack | None = None) -> Postgres:
    """See `store.open`. `?schema=` and `?pool=` are ours, the other options the driver's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema, pool = options.pop("schema", "fairlead"), options.pop("pool", str(POOL))
    if not pool.isdigit() or not int(pool):
        raise StoreError(f"?pool={pool}: write a number of connections, such as {POOL}")
    dsn = urlunsplit(parts._replace(query=urlencode(options)))
    return Postgres(dsn, ack, schema, int(pool))
