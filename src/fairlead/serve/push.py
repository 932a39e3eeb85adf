"""Webhooks out: the events of a topic are posted to URLs that subscribed, until each was taken or given up.

Rules
1. What there is to send is in the store (see `hooks`), so any worker of any node can carry it on.
2. One process delivers: the one that holds the leader key, renewed every `TERM / 3`. When it dies another takes over after
   `TERM`; an attempt that was under way is made again (at least once), under the same `webhook-id`.
3. Signed as Standard Webhooks says (`wire.signed`). `webhook-id` is made of topic and offset, the same for every attempt.
4. An attempt succeeds with 2xx and nothing else: a redirect is a failure. After failure number n the next comes after
   `SCHEDULE[n]`, a tenth more or less; after the last one the event is a dead letter, to be redriven by hand.
5. 410 disables the hook. 429, 502, 503 and 504 pause all of it, for as long as Retry-After says (at most an hour). A hook
   that has failed for `HOPELESS` without one success is disabled, and says why.
6. Nobody may use it to reach our own network: addresses are checked when they are dialed, see `net.guard`.
7. A receiver that hangs holds `concurrency` slots of its own hook until the time-out, and nobody else's.
8. An idle hook costs nothing: a task runs only while its queue has something that is due.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from fairlead.core.errors import ConfigError, NetError, Refused
from fairlead.net.ask import ask
from fairlead.serve.cloudevents import shown
from fairlead.serve.hooks import CHANGES, ROOT, Hook, Hooks, loaded
from fairlead.store.contract import Conflict, Event, Fenced, Gap, Lease, NewEvent, Offset, StoreError, TopicConfig
from fairlead.wire import signed

SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)  # Standard Webhooks 1.0
HOPELESS = 5 * 86400.0
THROTTLE = (429, 502, 503, 504)
PAUSE = 30.0  # seconds a throttled hook rests when Retry-After says nothing
PAUSE_MOST = 3600.0
TERM = 10.0  # seconds the leader key lasts
LOOK = 5.0  # seconds between looks for what no hint told
LEADER = "lead/hooks"
log = logging.getLogger("fairlead")


def message_id(topic: str, offset: Offset | None) -> str:
    """The same for every attempt, and no dot in it."""
    return f"msg_{hashlib.sha256(topic.encode()).hexdigest()[:16]}_{offset}"


class Deliveries:
    """Sends what hooks have waiting, in the process that leads. `start()` once a loop runs; `stop()` before it ends."""

    def __init__(self, hooks: Hooks, tls: ssl.SSLContext | None = None, schedule: tuple[float, ...] = SCHEDULE) -> None:
        self.hooks = hooks
        self.store = hooks.store
        self.limits = hooks.limits
        self.tls = tls
        self.schedule = schedule
        self.me = os.urandom(8).hex().encode()
        self.known: dict[str, Hook] = {}
        self.running: dict[str, asyncio.Task[None]] = {}
        self.again: set[str] = set()  # queues that may have got more while their task ran
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.slots = asyncio.Semaphore(self.limits.together)
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.changes: Callable[[], None] = lambda: None
        self.stops: dict[str, Callable[[], None]] = {}
        self.leads = False
        self.sent = self.failed = 0
        hooks.poke = self.wake.set

    def start(self) -> None:
        """From now on, whenever this process leads."""
        self.task = asyncio.get_running_loop().create_task(self.run())
        self.changes = self.hooks.hub.topic(CHANGES, lambda last, events: self.wake.set())

    async def stop(self) -> None:
        """Let go: attempts under way are cancelled, and made again by the next leader."""
        tasks = [task for task in (self.task, *self.running.values()) if task is not None]
        self.rest()
        self.changes()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.leads:
            self.leads = False
            with suppress(StoreError):
                entry = await self.store.state.get(LEADER)
                if entry is not None and entry.value == self.me:
                    await self.store.state.delete_if(LEADER, entry.version)

    def rest(self) -> None:
        """No timer, no hook."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        for stop in self.stops.values():
            stop()
        self.stops.clear()
        self.known.clear()

    async def run(self) -> None:
        """Lead when nobody else does, and while leading keep up with what hooks there are."""
        while True:
            try:
                await self.turn()
            except StoreError as error:
                log.warning("webhooks: the store cannot be reached: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(TERM / 3):
                    await self.wake.wait()
            self.wake.clear()

    async def turn(self) -> None:
        """One look: lead, load the hooks, start what may have something to send."""
        led = self.leads
        self.leads = await self.lead()
        if not self.leads:
            if led:
                log.info("webhooks: another process delivers now")
                for task in self.running.values():
                    task.cancel()
                self.rest()
            return
        await self.load()
        for name in list(self.known):
            self.ready(name)

    async def lead(self) -> bool:
        """Hold the leader key, or take it when it has expired."""
        entry = await self.store.state.get(LEADER)
        if entry is not None and entry.value != self.me:
            return False
        try:
            await self.store.state.put_if(LEADER, self.me, entry.version if entry else 0, ttl=TERM)
        except Conflict:
            return False
        return True

    async def load(self) -> None:
        """All hooks as they are now."""
        found: dict[str, Hook] = {}
        after = ""
        while page := await self.store.state.scan(ROOT, after):
            for key, entry in page:
                found[key] = loaded(entry.value, entry.version)
            after = page[-1][0]
        for name in self.known.keys() - found.keys():
            self.stops.pop(name)()
            if task := self.running.get(name):
                task.cancel()
        for name in found.keys() - self.known.keys():
            self.stops[name] = self.hooks.hub.queue(name, partial(self.ready, name))
        self.known = found

    def ready(self, name: str) -> None:
        """Look at a hook's queue now, unless that is being done."""
        if timer := self.timers.pop(name, None):
            timer.cancel()
        if name in self.running:
            self.again.add(name)
            return
        hook = self.known.get(name)
        if hook is None or hook.state != "active" or not self.leads:
            return
        task = asyncio.get_running_loop().create_task(self.drain(name))
        self.running[name] = task
        task.add_done_callback(lambda done: self.drained(name, done))

    def drained(self, name: str, task: asyncio.Task[None]) -> None:
        """A hook's queue has nothing that is due."""
        self.running.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("webhook %s: %s", name, error)
        elif name in self.again:
            self.again.discard(name)
            self.ready(name)

    def later(self, name: str, seconds: float) -> None:
        """Look again after some time."""
        if name in self.known and name not in self.timers:
            self.timers[name] = asyncio.get_running_loop().call_later(max(seconds, 0.01), self.ready, name)

    async def drain(self, name: str) -> None:
        """Send everything of one hook that is due, `concurrency` at once."""
        lease_time = self.limits.timeout + TERM
        while (hook := self.known.get(name)) is not None and hook.state == "active" and self.leads:
            rest = hook.paused - time.time()
            if rest > 0:
                self.later(name, rest)
                return
            self.again.discard(name)
            try:
                leases = await self.store.leases.claim(name, self.limits.concurrency, lease_time, self.me.decode())
            except Gap as gap:
                await self.write(hook, {"error": f"{gap}", "skipped": True})
                continue
            if not leases:
                due = await self.store.leases.next_due(name)
                if due is not None and name not in self.again:
                    self.later(name, due - time.time())
                return
            await asyncio.gather(*(self.deliver(hook, lease) for lease in leases))

    async def deliver(self, hook: Hook, lease: Lease) -> None:
        """One attempt and what follows from it. Never raises but for the store."""
        event = lease.event
        if event is not None and not hook.wants(event.type):
            await self.store.leases.ack([lease])
            return
        async with self.slots:
            status, error, wait, took = await self.attempt(hook, lease)
        delay = self.next_delay(lease.attempt, wait)
        entry = {
            "id": message_id(hook.topic, lease.offset), "offset": str(lease.offset), "attempt": lease.attempt,
            "status": status, "error": error, "took": round(took, 6),
        }  # fmt: skip
        good = 200 <= status < 300
        entry["next"] = None if good or delay is None else round(delay, 3)
        with suppress(Fenced):
            if good:
                await self.store.leases.ack([lease])
            elif status == 410:
                await self.store.leases.nack(lease, 0.0, error)
            elif delay is None:
                await self.store.leases.term(lease, error)
            else:
                await self.store.leases.nack(lease, delay, error)
        self.sent += good
        self.failed += not good
        await self.write(hook, entry)
        await self.judge(hook, status, error, wait)

    def next_delay(self, attempt: int, wait: float) -> float | None:
        """Seconds until attempt number `attempt` + 1; None when that was the last."""
        if attempt >= len(self.schedule):
            return None
        return max(self.schedule[attempt] * random.uniform(0.9, 1.1), wait)

    async def attempt(self, hook: Hook, lease: Lease) -> tuple[int, str, float, float]:
        """Post it: (status or 0, what was wrong, seconds it asks us to wait, seconds it took)."""
        began = time.monotonic()
        headers, body = self.message(hook, lease)
        try:
            answer = await ask(
                "POST", hook.url, headers, body, timeout=self.limits.timeout, most=4096, guard=self.hooks.guard, tls=self.tls
            )
        except (NetError, Refused, ConfigError) as error:
            return 0, f"{getattr(error, 'step', '')}: {error}".removeprefix(": "), 0.0, time.monotonic() - began
        error_text = "" if answer.status // 100 == 2 else f"status {answer.status}"
        return answer.status, error_text, retry_after(answer.headers.get("retry-after", ""), time.time()), answer.took

    def message(self, hook: Hook, lease: Lease) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Head and body of one attempt."""
        event, now = lease.event, time.time()
        known = event.headers if event is not None else {}
        name = message_id(hook.topic, lease.offset)
        body, content_type = lease.body, known.get("content-type", "application/json")
        if hook.envelope:
            body, content_type = cloud_event(hook, lease, name), "application/cloudevents+json"
        fields = [
            (b"content-type", content_type.encode("latin-1", "replace")),
            (b"user-agent", b"fairlead"),
            (b"fairlead-topic", hook.topic.encode("ascii", "backslashreplace")),
        ]
        if event is not None and event.type and event.type.isascii() and event.type.isprintable():
            fields.append((b"fairlead-type", event.type.encode()))
        return fields + signed.headers(hook.signing(now), name, int(now), body), body

    async def write(self, hook: Hook, entry: dict[str, Any]) -> None:
        """Into the hook's log of attempts."""
        entry = {"at": round(time.time(), 3), "url": hook.url, **entry}
        config = TopicConfig("application/json", keep=self.limits.keep, max_events=self.limits.attempts)
        with suppress(StoreError):
            await self.store.log.append(hook.journal, [NewEvent(json.dumps(entry).encode())], create=config)

    async def judge(self, hook: Hook, status: int, error: str, wait: float) -> None:
        """What an outcome does to the hook itself."""
        now = time.time()
        good = 200 <= status < 300

        def edit(one: Hook) -> None:
            if good:
                one.succeeded, one.failing = now, 0.0
                return
            one.failing = one.failing or now
            if status == 410:
                one.state, one.reason = "disabled", "the receiver answered 410 Gone"
            elif now - one.failing > HOPELESS:
                one.state, one.reason = "disabled", f"nothing but failures for {HOPELESS / 86400:g} days; the last: {error}"
            if status in THROTTLE:
                one.paused = max(one.paused, now + min(wait or PAUSE, PAUSE_MOST))

        if good and not hook.failing and hook.succeeded > now - 60.0:
            return  # a success a minute is enough to know that it is well
        try:
            changed = await self.hooks.change(hook.topic, hook.id, edit)
        except Refused:
            return  # deleted meanwhile
        if hook.name in self.known:
            self.known[hook.name] = changed
        if changed.state == "disabled" and hook.state != "disabled":
            log.warning("webhook %s to %s is disabled: %s", hook.name, hook.url, changed.reason)


def cloud_event(hook: Hook, lease: Lease, name: str) -> bytes:
    """The event in CloudEvents' JSON form, with the attributes that it came with, if it came so."""
    event = lease.event or Event(0, lease.body)
    given = event.headers.get("content-type", "")
    said = shown(event._replace(data=lease.body), hook.topic, given or "application/json", lease.offset or Offset(0, 0), name)
    if not given and "data" not in said:
        said.pop("datacontenttype", None)
    return json.dumps(said).encode()


def retry_after(value: str, now: float) -> float:
    """Seconds that a Retry-After means, 0 when it says nothing that we understand."""
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), PAUSE_MOST)
    if not value:
        return 0.0
    try:
        return min(max(parsedate_to_datetime(value).timestamp() - now, 0.0), PAUSE_MOST)
    except (ValueError, TypeError, OverflowError):
        return 0.0
