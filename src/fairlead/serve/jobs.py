"""Jobs: work that outlives the request that asked for it. What a job is, and where it is kept.

A job is three things of the store, so every way of hearing of one is a way of hearing of a topic:

    state   `job/<kind>/<id>`     what it is now: a row with a version, the one truth about its outcome
    queue   `jobs/<kind>`         that it waits for a worker, or is in one's hands, under a lease with a fence
    topic   `$job/<kind>/<id>`    what happened, for whoever follows; made when somebody does, closed at its end

    queued -> running -> succeeded | failed (attempts used up: a dead letter) | cancelled
       ^---- retry ----'

Rules
1. Accepted means kept: `submit` returns when row and queue item are stored. One engine does both or none. With two the row is
   written first; what is cut in between is healed by `sweep`, which puts the item of every row that has been queued for `ORPHAN`
   seconds (putting twice changes nothing).
2. A job runs at most once at a time: only who holds its lease may write to its row what came of it, and one engine sees to that
   in the same step (`store.pairs`). With two, the row says under which fence it runs before the code begins, and a worker that
   lost its lease meets another version.
3. At least once: a worker that dies is noticed when its lease ends, and the attempt counts. An outcome is written before the
   lease is given up, so a job that has one never runs again.
4. `unique`: while a job with this text is queued or running, another submit answers with that one.
5. Arguments, progress and results are JSON: what is not is refused with its place, at the submit or as the job's failure.
6. A finished job's row and topic are kept for `keep` seconds.
7. Priorities age: one level is worth `AGEING` seconds of waiting, so nothing waits for ever. The queue's own order is strict,
   so what it is given as priority is level x AGEING minus the time.
8. The topic holds each change as one event, under a dedupe key made of the row's version: whoever writes it, worker or
   follower, it is there once. A follower makes the topic and then marks the row `followed`; who changes a marked row says so in
   the topic, after the row. A change from before the mark cannot win over it (versions), so the end is never missed, and a
   job that nobody follows costs its topic nothing.
9. Nothing here imports a job's code: who only submits (a front, `[jobs] workers`) knows a kind by its name and by what its
   workers told of it in the state (`jobkind/<kind>`: its options).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fairlead.core.errors import AppError, Refused
from fairlead.store.contract import (
    Closed,
    Conflict,
    Entry,
    Fenced,
    Item,
    Lease,
    NewEvent,
    NoTopic,
    Store,
    StoreError,
    TopicConfig,
)
from fairlead.store.hub import Hub
from fairlead.store.pairs import pairs_of

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
OVER = (SUCCEEDED, FAILED, CANCELLED)
ORPHAN = 30.0  # seconds after which a queued row's item is put again
AGEING = 60
LOOK = 1.0  # seconds between looks at a job that is waited for, should a hint be lost
ARGUMENTS = 256 * 1024  # bytes of a job's arguments as JSON; larger input goes by upload or topic
RESULT = 1024 * 1024  # bytes of a result
PROGRESS = 16 * 1024  # bytes of one progress report
CLAIM = 5.0  # seconds that who holds a unique text has to write its row
UNIQUE = 30 * 86400.0  # and after which the text is forgotten, however long its job takes
CLOCK = 2.0  # seconds for which the engine's clock is followed without a look at it
KNOWN = 5.0  # seconds for which what others told of a kind is believed
REQUEST = "request:"  # what kinds of requests that became jobs are called (`serve.later`): their results are whole answers
CONTROL = "$jobs"  # a topic of hints: cancellations, by name


@dataclass(slots=True, frozen=True)
class JobOptions:
    """How jobs of one kind are run. Times in seconds, 0 or None: none."""

    retries: int = 5  # attempts after the first
    backoff: float = 1.0  # before the first retry, doubled for each one after
    max_backoff: float = 300.0
    jitter: float = 0.2  # part of the pause that is random
    timeout: float | None = 600.0  # one attempt
    keep: float | None = 86400.0  # a finished job
    priority: int = 0  # higher first
    concurrency: int = 0  # of this kind at once, in all workers together
    rate: float = 0.0  # starts per second, in all workers together
    lease: float = 30.0  # how long a worker that stands still or is gone keeps its jobs; renewed every third of it
    cron: str = ""  # five fields; a job without arguments is submitted at each time
    timezone: str = "UTC"  # of `cron`


def options_from(value: bytes) -> JobOptions:
    """Options as a worker told them; what a newer version added is passed over."""
    found = json.loads(value)
    return JobOptions(**{name: found[name] for name in JobOptions.__dataclass_fields__ if name in found})


@dataclass
class Row:
    """What a job is now, as the state holds it. Without slots: what is as usual is the class's, and costs no row anything."""

    id: str
    kind: str
    args: Any = None  # [[positional], {named}]
    state: str = QUEUED
    attempt: int = 0
    created: float = 0.0
    due: float = 0.0
    started: float = 0.0  # the running attempt, or the last
    finished: float = 0.0
    progress: Any = None
    result: Any = None
    error: str = ""
    trace: str = ""
    fence: int = 0  # of the attempt that runs
    claims: int = 0  # how often its item had been claimed when this was written: later claims are attempts that wrote nothing
    worker: str = ""
    cancel: bool = False
    priority: int = 0
    unique: str = ""
    owner: str = ""  # the principal that submitted it
    webhook: str = ""  # posted the outcome
    followed: bool = False  # its topic was made
    keep: float | None = 86400.0
    retries: int | None = None  # None: as its kind
    version: int = 0  # of the key; not stored

    @property
    def over(self) -> bool:
        """It has an outcome."""
        return self.state in OVER

    @property
    def item(self) -> Item:
        """What waits for it in the queue, see rule 7."""
        return Item(self.id, b"", self.due, self.priority * AGEING - int(self.created))

    def stored(self) -> bytes:
        """As the state holds it: what is not as usual."""
        return PLAIN({name: value for name, value in self.__dict__.items() if name != "version" and value != USUAL[name]}).encode()

    def but(self, **changes: Any) -> Row:
        """Another row like this one but for what is given."""
        made = Row.__new__(Row)
        made.__dict__.update(self.__dict__, **changes)
        return made

    def shown(self) -> dict[str, Any]:
        """What a client sees."""
        found: dict[str, Any] = {"id": self.id, "kind": self.kind, "state": self.state, "attempt": self.attempt}
        for name in ("created", "due", "started", "finished"):
            if value := getattr(self, name):
                found[name] = round(value, 3)
        if self.progress is not None:
            found["progress"] = self.progress
        if self.state == SUCCEEDED:
            whole = not self.kind.startswith(REQUEST)
            found["result"] = self.result if whole else {"status": self.result["status"]}
        if self.error:
            found["error"] = self.error
        if self.cancel and not self.over:
            found["cancelling"] = True
        return found


FIELDS = frozenset(name for name in Row.__dataclass_fields__ if name != "version")
USUAL = {name: getattr(Row(id="", kind=""), name) for name in FIELDS} | {"id": "", "kind": ""}


def loaded(entry: Entry) -> Row:
    """A row out of its entry. What a newer version added is passed over."""
    found = json.loads(entry.value)
    row = Row.__new__(Row)
    if not found.keys() <= FIELDS:
        found = {name: value for name, value in found.items() if name in FIELDS}
    found["version"] = entry.version
    row.__dict__ = found
    return row


def key_of(kind: str, name: str) -> str:
    """Where a job's row is."""
    return f"job/{kind}/{name}"


def unique_of(kind: str, unique: str) -> str:
    """Where it is said which job holds a unique text."""
    return f"jobunique/{kind}/{unique}"


def queue_of(kind: str) -> str:
    """Where jobs of a kind wait."""
    return f"jobs/{kind}"


def told_of(kind: str) -> str:
    """Where its workers tell of a kind."""
    return f"jobkind/{kind}"


def topic_of(kind: str, name: str) -> str:
    """Where what happens to a job is said."""
    return f"$job/{kind}/{name}"


def as_json(value: Any, most: int, what: str) -> Any:
    """`value`, if JSON can hold it within `most` bytes. AppError says what of it cannot."""
    try:
        text = STRICT(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise AppError(f"{what} cannot be written as JSON: {error}", hint="give numbers, texts, lists and mappings") from None
    if len(text) > most:
        raise AppError(f"{what} has {len(text)} bytes as JSON, more than {most}", hint="keep it elsewhere and give its name")
    return value


STRICT = json.JSONEncoder(allow_nan=False).encode
PLAIN = json.JSONEncoder().encode


class Jobs:
    """All jobs of one store: submit, look, cancel, list. The working side is `jobwork.Work`."""

    def __init__(self, store: Store, hub: Hub | None = None) -> None:
        self.store = store
        self.pairs = pairs_of(store)
        self.hub = hub or Hub(store)
        self.clock = (-CLOCK, 0.0)  # when the engine's clock was looked at, and what it was beyond the loop's
        self.kinds: dict[str, JobKind] = {}
        self.told: dict[str, tuple[float, JobOptions]] = {}  # of kinds that others work on: when we looked, what we saw

    def add(self, kind: JobKind) -> None:
        """Know a kind, so that it can be worked on and submitted by name."""
        self.kinds[kind.name] = kind

    def at(self) -> float:
        """The engine's clock as it was followed last."""
        return asyncio.get_running_loop().time() + self.clock[1]

    async def now(self) -> float:
        """The engine's clock: asked now and then, for each look may be a round trip, and followed in between."""
        time = asyncio.get_running_loop().time
        looked, beyond = self.clock
        if time() - looked > CLOCK:
            beyond = await self.store.now() - time()
            self.clock = time(), beyond
        return time() + beyond

    async def submit(
        self,
        kind: str,
        args: Sequence[Any] = (),
        named: dict[str, Any] | None = None,
        *,
        options: JobOptions | None = None,
        name: str = "",
        delay: float = 0.0,
        unique: str = "",
        owner: str = "",
        webhook: str = "",
        retries: int | None = None,
        most: int = ARGUMENTS,
    ) -> Row:
        """A new job, stored and waiting; with `unique` or `name` maybe the one that is there already. AppError, StoreError."""
        options = options or await self.options_of(kind)
        given = as_json([list(args), named or {}], most, f"the arguments of {kind}")
        now = await self.now()
        row = Row(
            id=name or os.urandom(10).hex(), kind=kind, args=given, created=now, due=now + delay if delay else 0.0,
            priority=options.priority, unique=unique, owner=owner, webhook=webhook, keep=options.keep,
            retries=retries,
        )  # fmt: skip
        claim = await self.claimed(kind, unique, row.id) if unique else 0
        if isinstance(claim, Row):
            return claim
        try:
            due = None if self.pairs.whole else max(now, row.due) + ORPHAN
            entry = await self.pairs.enqueue(queue_of(kind), row.item, key_of(kind, row.id), row.stored(), due)
        except Conflict as conflict:
            if not name or conflict.entry is None:
                raise
            return loaded(conflict.entry)
        row.version = entry.version
        if unique:
            await self.confirm(row, claim)
        return row

    async def options_of(self, kind: str) -> JobOptions:
        """How a kind is run: as we know, else as its workers told, else as usual."""
        if kind in self.kinds:
            return self.kinds[kind].options
        now = asyncio.get_running_loop().time()
        seen, options = self.told.get(kind, (0.0, JobOptions()))
        if now - seen >= KNOWN or kind not in self.told:
            entry = await self.store.state.get(told_of(kind))
            options = options_from(entry.value) if entry is not None else JobOptions()
            self.told[kind] = (now, options)
        return options

    async def tell_of(self, kind: JobKind) -> None:
        """What others ought to know of a kind that is worked on here. The newest word counts."""
        value = json.dumps(asdict(kind.options)).encode()
        entry = await self.store.state.get(told_of(kind.name))
        if entry is None or entry.value != value:
            await self.store.state.put_if(told_of(kind.name), value, None)

    async def claimed(self, kind: str, unique: str, name: str) -> Row | int:
        """The job that holds a unique text, or, after having made `name` its holder, the version of that.

        Who is made the holder has `CLAIM` seconds to write its row, for which others wait; `confirm` says that it is there.
        """
        key = unique_of(kind, unique)
        while True:
            entry = await self.store.state.get(key)
            if entry is not None:
                holder = await self.get(kind, entry.value.decode())
                if holder is not None and not holder.over:
                    return holder
                if holder is None and entry.due is not None and entry.due > await self.now():
                    await asyncio.sleep(0.01)
                    continue
            try:
                due, version = await self.now() + CLAIM, entry.version if entry else 0
                return (await self.store.state.put_if(key, name.encode(), version, ttl=UNIQUE, due=due)).version
            except Conflict:
                continue

    async def confirm(self, row: Row, version: int) -> None:
        """The row of a unique text's holder is there. If nobody hears that, others wait some moments longer when it has gone."""
        with suppress(Conflict):
            await self.store.state.put_if(unique_of(row.kind, row.unique), row.id.encode(), version, ttl=UNIQUE)

    async def get(self, kind: str, name: str) -> Row | None:
        """The job as it is now."""
        entry = await self.store.state.get(key_of(kind, name))
        return None if entry is None else loaded(entry)

    async def listed(self, kind: str, after: str = "", limit: int = 100) -> list[Row]:
        """Jobs of a kind, a page at a time."""
        found = await self.store.state.scan(f"job/{kind}/", key_of(kind, after) if after else "", limit)
        return [loaded(entry) for _, entry in found]

    async def write(self, row: Row) -> Row:
        """Store a changed row over the version it was read at, and say what happened. Conflict."""
        ttl = row.keep if row.over else None
        due = None if row.state != QUEUED else max(row.due, await self.now()) + ORPHAN
        entry = await self.store.state.put_if(key_of(row.kind, row.id), row.stored(), row.version, ttl=ttl, due=due)
        row.version = entry.version
        await self.say(row)
        return row

    def settle(self, row: Row, lease: Lease, done: bool) -> Awaitable[Entry]:
        """Store what came of a job over the version it was read at, and let go of its item if it is `done`: for one that nobody
        follows, since nothing is said of it. Conflict; Fenced when the lease is another's and one engine has both.
        """
        ttl = row.keep if row.over else None
        return self.pairs.settle(lease, key_of(row.kind, row.id), row.stored(), row.version, ttl, done)

    async def held(self, row: Row, lease: Lease, done: bool = False) -> Row:
        """The same, and say what happened: before the item is let go, so that who has it next says it if we cannot."""
        entry = await self.settle(row, lease, done and not row.followed)
        row.version = entry.version
        if row.followed:
            await self.say(row)
            if done:
                await self.store.leases.ack([lease])
        return row

    async def say(self, row: Row) -> None:
        """The row as an event of its topic, if there is one; the last one closes it."""
        if not row.followed:
            return
        event = NewEvent(json.dumps(row.shown()).encode(), type=row.state)
        with suppress(NoTopic, Closed):
            await self.store.log.append(topic_of(row.kind, row.id), [event], dedupe=f"v{row.version}", close=row.over)

    async def followed(self, kind: str, name: str) -> Row:
        """Make the topic of a job that somebody wants to follow, with what is so now. Refused 404."""
        row = await self.get(kind, name)
        if row is None:
            raise Refused(f"there is no job {name}", status=404)
        config = TopicConfig("application/json", max_events=10000, ttl=max(row.keep or 0.0, 3600.0))
        await self.store.log.create(topic_of(kind, name), config)
        while not row.followed:
            try:
                return await self.write(row.but(followed=True))
            except Conflict as conflict:
                if conflict.entry is None:
                    raise Refused(f"there is no job {name}", status=404) from None
                row = loaded(conflict.entry)
        await self.say(row)
        return row

    async def cancel(self, kind: str, name: str) -> Row:
        """Wanted no more: one that waits is cancelled now, a running one is told. Refused 404, 409 when it is over."""
        while True:
            row = await self.get(kind, name)
            if row is None:
                raise Refused(f"there is no job {name}", status=404)
            if row.over:
                raise Refused(f"the job is {row.state} already", status=409)
            changed = row.but(cancel=True)
            try:
                if row.state == QUEUED:
                    if await self.withdrawn(row, changed):
                        return changed
                    changed.state = RUNNING
                await self.write(changed)
            except Conflict:
                continue
            await self.tell(kind, name)
            return changed

    async def withdrawn(self, row: Row, changed: Row) -> bool:
        """Cancel one that waits; False when a worker has it by now, whatever its row says. Conflict."""
        over = changed.but(state=CANCELLED, finished=await self.store.now())
        key = key_of(row.kind, row.id)
        try:
            entry = await self.pairs.withdraw(queue_of(row.kind), row.id, key, over.stored(), row.version, over.keep)
        except Fenced:
            return False
        changed.state, changed.finished, changed.version = over.state, over.finished, entry.version
        await self.say(changed)
        return True

    async def tell(self, kind: str, name: str) -> None:
        """Hint to all workers that a job was cancelled; who misses it sees it at the next heartbeat."""
        config = TopicConfig(max_events=1000, keep=60.0)
        with suppress(StoreError):
            await self.store.log.append(CONTROL, [NewEvent(f"{kind}/{name}".encode())], create=config)

    async def redrive(self, kind: str, names: Sequence[str] | None = None) -> int:
        """Failed jobs run again, with attempts counted from none; how many."""
        count = 0
        for name in names if names is not None else [dead.id for dead in await self.store.leases.dead(queue_of(kind), limit=1000)]:
            row = await self.get(kind, name)
            if row is None or row.state not in (FAILED, CANCELLED):
                continue
            fresh = row.but(
                state=QUEUED, attempt=0, error="", trace="", cancel=False, finished=0.0, due=0.0, fence=0, claims=0,
                followed=False,
            )  # fmt: skip
            with suppress(Conflict):
                await self.write(fresh)
                await self.store.log.delete(topic_of(kind, name))  # it was closed; who follows again begins a new one
                if not await self.store.leases.redrive(queue_of(kind), [name]):
                    await self.store.leases.put(queue_of(kind), [fresh.item])
                count += 1
        return count

    async def sweep(self) -> int:
        """Heal what was cut between row and queue; how many. Any worker, now and then."""
        count = 0
        for key, entry in await self.store.state.scan_due("job/"):
            row = loaded(entry)
            if row.state == QUEUED:
                count += sum(await self.store.leases.put(queue_of(row.kind), [row.item]))
                count += await self.store.leases.redrive(queue_of(row.kind), [row.id])
                again = await self.store.now() + 10 * ORPHAN
            else:
                again = 0.0
            with suppress(Conflict):
                ttl = row.keep if row.over else None
                await self.store.state.put_if(key, entry.value, entry.version, ttl=ttl, due=again or None)
        return count

    async def wait(self, kind: str, name: str, seconds: float) -> Row | None:
        """The job when it is over or after so long, whichever is first; None when there is none."""
        return await self.until(kind, name, seconds, lambda row: row.over)

    async def until(self, kind: str, name: str, seconds: float, enough: Callable[[Row], bool]) -> Row | None:
        """The same for any other change. It listens first and looks then, so no change falls between."""
        ends = asyncio.get_running_loop().time() + seconds
        row = await self.get(kind, name)
        if row is None or enough(row) or seconds <= 0:
            return row
        await self.followed(kind, name)
        changed = asyncio.Event()
        stop = self.hub.topic(topic_of(kind, name), lambda last, events: changed.set())
        try:
            while True:
                row = await self.get(kind, name)
                left = ends - asyncio.get_running_loop().time()
                if row is None or enough(row) or left <= 0:
                    return row
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK)):
                        await changed.wait()
                changed.clear()
        finally:
            stop()


REGISTRY: dict[str, JobKind] = {}  # every function that was made a job in this process
here: Jobs | None = None  # of this process, once it serves; what `@fairlead.job` submits to


def attach(jobs: Jobs | None) -> None:
    """This process submits to these."""
    global here
    here = jobs


@dataclass(slots=True)
class JobKind:
    """What `@fairlead.job` makes of a function: call it to run it here and now, `submit` it to have it run."""

    function: Callable[..., Any]
    name: str
    options: JobOptions = field(default_factory=JobOptions)
    extra: dict[str, Any] = field(default_factory=dict)  # of one submit: delay, unique, name
    most: int = RESULT  # bytes of a result

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.function(*args, **named)

    def using(self, *, delay: float = 0.0, unique: str = "", name: str = "", **options: Any) -> JobKind:
        """The same with other options for one submit: `build.using(delay=60, priority=5).submit(42)`."""
        extra = {"delay": delay, "unique": unique, "name": name}
        return JobKind(self.function, self.name, replace(self.options, **options), extra)

    async def submit(self, *args: Any, conn: Any = None, **named: Any) -> Handle:
        """Have it run; returns when that is stored.

        With `conn`, a connection of your own inside a transaction: it runs when, and only if, that is committed.
        """
        jobs = self.jobs()
        if conn is not None:
            return await self.submit_with(conn, jobs, args, named)
        row = await jobs.submit(self.name, args, named, options=self.options, **self.extra)
        return Handle(jobs, row.kind, row.id)

    async def submit_with(self, conn: Any, jobs: Jobs, args: Any, named: dict[str, Any]) -> Handle:
        """An entry of the outbox: the row, then the item."""
        from fairlead.store import outbox

        given = as_json([list(args), named], ARGUMENTS, f"the arguments of {self.name}")
        now = await jobs.store.now()
        delay = self.extra.get("delay", 0.0)
        row = Row(
            id=self.extra.get("name") or os.urandom(10).hex(), kind=self.name, args=given, created=now,
            due=now + delay if delay else 0.0, priority=self.options.priority, keep=self.options.keep,
        )  # fmt: skip
        first = outbox.Set(key_of(self.name, row.id), row.stored(), due=max(now, row.due) + ORPHAN)
        await outbox.write(conn, [first, outbox.Put(queue_of(self.name), [row.item])])
        return Handle(jobs, self.name, row.id)

    def jobs(self) -> Jobs:
        """Those of this process. AppError outside of a server."""
        if here is None:
            raise AppError(
                "no server runs here that has a store, so nothing can be submitted",
                hint="serve the application with a configuration that has [store], a job or a topic",
            )
        return here


@dataclass(slots=True, frozen=True)
class Handle:
    """A job that was submitted."""

    jobs: Jobs
    kind: str
    id: str

    async def status(self) -> Row | None:
        """As it is now."""
        return await self.jobs.get(self.kind, self.id)

    async def result(self, timeout: float = 600.0) -> Any:
        """Its result. AppError when it failed, was cancelled, or is not over in time."""
        row = await self.jobs.wait(self.kind, self.id, timeout)
        if row is not None and row.state == SUCCEEDED:
            return row.result
        raise AppError(f"job {self.id} is {row.state if row else 'unknown'}{f': {row.error}' if row and row.error else ''}")

    async def cancel(self) -> Row:
        """Wanted no more."""
        return await self.jobs.cancel(self.kind, self.id)


def job(function: Callable[..., Any] | None = None, *, name: str = "", **options: Any) -> Any:
    """`@fairlead.job` or `@fairlead.job(retries=3, timeout=60)`: a function, async or not, that can be submitted.

    Its kind is `module:function`, or `name`. The options are those of `JobOptions`.
    """

    def made(function: Callable[..., Any]) -> JobKind:
        kind = JobKind(function, name or f"{function.__module__}:{function.__qualname__}", JobOptions(**options))
        REGISTRY[kind.name] = kind
        return kind

    return made if function is None else made(function)
