"""The webhooks of topics as a resource: who subscribed, with which keys, from where on. `push` delivers to them.

Rules
1. A hook is a state key (what it is), a queue fed by its topic (what is to be sent) and a topic of its own (the log of its
   attempts). So it survives everything that the store survives, and any worker of any node can carry it on.
2. A secret is shown once, when it is made or rotated; the public half of an ed25519 key always.
3. A rotated key goes on signing beside the new one for `OLD_KEY`.
4. Who makes hooks makes us send requests: a hook's address is checked whenever it is dialed (`net.guard`), never before only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fairlead.core.errors import ConfigError, FairleadError, Refused
from fairlead.net.ask import ask, where
from fairlead.net.guard import Guard
from fairlead.store.contract import Conflict, Gap, NewEvent, NoTopic, Offset, Store, StoreError, TopicConfig
from fairlead.store.hub import Hub
from fairlead.wire import signed

OLD_KEY = 86400.0  # seconds a rotated key goes on signing
ROOT = "hook/"
CHANGES = "$hooks"  # a topic whose only use is its hints: hooks were changed


@dataclass(slots=True, frozen=True)
class PushLimits:
    """Caps of webhooks, per route. Times in seconds."""

    timeout: float = 20.0  # one attempt; Standard Webhooks: 15 to 30 s
    concurrency: int = 4  # attempts of one hook at once
    together: int = 256  # attempts at once, of all hooks of a process
    most: int = 100  # hooks of one topic
    attempts: int = 1000  # kept in a hook's log
    keep: float = 7 * 86400.0  # and for how long


@dataclass(slots=True)
class Hook:
    """One subscription, as it is stored."""

    id: str
    topic: str
    url: str
    keys: list[list[Any]]  # [key, until or None], the current one first
    types: list[str] = field(default_factory=list)  # of events; empty: all
    envelope: str = ""  # "", or "cloudevents"
    state: str = "active"  # active | paused | disabled
    reason: str = ""
    created: float = 0.0
    succeeded: float = 0.0  # last success
    failing: float = 0.0  # since when there was none, 0: it is well
    paused: float = 0.0  # until when it rests
    owner: str = ""  # the principal that made it
    version: int = 0  # of the state key; not stored

    @property
    def name(self) -> str:
        """Its key, and its queue."""
        return f"{ROOT}{self.topic}/{self.id}"

    @property
    def journal(self) -> str:
        """The topic of its attempts."""
        return f"$hook/{self.topic}/{self.id}"

    def stored(self) -> bytes:
        """What the state holds."""
        return json.dumps({name: getattr(self, name) for name in STORED}).encode()

    def shown(self, secrets: bool = False) -> dict[str, Any]:
        """What a client sees; secrets only when they were made just now."""
        found = {name: getattr(self, name) for name in STORED if name not in ("keys", "owner")}
        found["public_key"] = signed.public_of(self.keys[0][0])
        if secrets:
            found["secret"] = self.keys[0][0]
        return found

    def signing(self, now: float) -> list[str]:
        """The keys that sign now."""
        return [key for key, until in self.keys if until is None or until > now]

    def wants(self, kind: str) -> bool:
        """Whether events of this type are sent."""
        return not self.types or kind in self.types or any(t.endswith("*") and kind.startswith(t[:-1]) for t in self.types)


STORED = (
    "id", "topic", "url", "keys", "types", "envelope", "state", "reason", "created", "succeeded", "failing", "paused", "owner",
)  # fmt: skip


def loaded(value: bytes, version: int) -> Hook:
    """A hook out of its state key."""
    return Hook(**{name: one for name, one in json.loads(value).items() if name in STORED}, version=version)


class Hooks:
    """The resource: making, showing, changing hooks. Any worker; the state is in the store."""

    def __init__(self, store: Store, limits: PushLimits | None = None, guard: Guard | None = None, hub: Hub | None = None) -> None:
        self.store = store
        self.hub = hub or Hub(store)
        self.limits = limits or PushLimits()
        self.guard = guard or Guard()
        self.poke: Callable[[], None] = lambda: None  # tells the deliveries of this process

    async def listed(self, topic: str) -> list[Hook]:
        """All hooks of a topic."""
        found = await self.store.state.scan(f"{ROOT}{topic}/", limit=self.limits.most + 1)
        return [loaded(entry.value, entry.version) for key, entry in found if "/" not in key[len(ROOT) + len(topic) + 1 :]]

    async def get(self, topic: str, name: str) -> Hook:
        """One. Refused 404."""
        entry = await self.store.state.get(f"{ROOT}{topic}/{name}")
        if entry is None:
            raise Refused(f"topic {topic} has no webhook {name}", status=404)
        return loaded(entry.value, entry.version)

    async def make(self, topic: str, wanted: dict[str, Any], owner: str = "") -> Hook:
        """A new one from what the client wrote: url, and maybe types, kind, secret, after, envelope, id. Refused 4xx."""
        known = {"url", "types", "kind", "secret", "after", "envelope", "id"}
        if unknown := set(wanted) - known:
            raise Refused(f"unknown: {', '.join(sorted(unknown))}", status=400, hint=f"known: {', '.join(sorted(known))}")
        url = self.checked_url(wanted.get("url"))
        head = await self.store.log.head(topic)
        if len(await self.listed(topic)) >= self.limits.most:
            raise Refused(f"topic {topic} has {self.limits.most} webhooks already", status=403, hint="delete one")
        hook = Hook(
            id=self.checked_id(wanted.get("id")), topic=topic, url=url, keys=[[self.key_for(wanted), None]],
            types=self.checked_types(wanted.get("types", [])), envelope=self.checked_envelope(wanted.get("envelope", "")),
            created=time.time(), owner=owner,
        )  # fmt: skip
        after = self.checked_after(wanted.get("after", "now"), head)
        if hook.envelope:
            await self.asked_for(hook)
        await self.store.leases.feed(hook.name, topic, after)
        try:
            await self.save(hook, 0)
        except Conflict:
            raise Refused(f"topic {topic} has a webhook {hook.id} already", status=409) from None
        return hook

    def checked_url(self, url: Any) -> str:
        """An absolute URL. Whether its address may be reached is seen when it is dialed."""
        if not isinstance(url, str):
            raise Refused("`url` is missing", status=400, hint='write {"url": "https://…"}')
        try:
            where(url)
        except ConfigError as error:
            raise Refused(str(error), status=400, hint=error.hint) from None
        return url

    def checked_id(self, name: Any) -> str:
        """The client's own name, or a new one."""
        if name is None:
            return "wh" + os.urandom(8).hex()
        if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.replace("-", "").replace("_", "").isalnum():
            raise Refused("`id` has 1 to 64 letters, digits, - and _", status=400)
        return name

    def checked_types(self, types: Any) -> list[str]:
        """A list of event types, `*` at the end matches more."""
        if not isinstance(types, list) or not all(isinstance(one, str) and one for one in types) or len(types) > 100:
            raise Refused("`types` is a list of at most 100 event types", status=400)
        return types

    def checked_envelope(self, envelope: Any) -> str:
        """How an event is wrapped."""
        if envelope not in ("", "cloudevents"):
            raise Refused('`envelope` is "" or "cloudevents"', status=400)
        return envelope

    def checked_after(self, after: Any, head: Any) -> Offset:
        """Where it begins."""
        if after == "now":
            return head.last
        if after == "-1":
            return head.first
        try:
            return Offset.parse(after)
        except (ValueError, AttributeError):
            raise Refused("`after` is an offset, \"-1\" or \"now\"", status=400) from None

    def key_for(self, wanted: dict[str, Any]) -> str:
        """The key that the client gave, or a new one of the kind it asks for."""
        if wanted.get("secret") is not None:
            key = str(wanted["secret"])
            try:
                signed.raw_key(key)
            except ConfigError as error:
                raise Refused(f"`secret`: {error}", status=400, hint=error.hint) from None
            if key.startswith(signed.PUBLIC):
                raise Refused("`secret`: a public key signs nothing", status=400)
            return key
        kind = wanted.get("kind", "ed25519")
        if kind not in ("ed25519", "hmac"):
            raise Refused('`kind` is "ed25519" or "hmac"', status=400)
        return signed.new_private(os.urandom(32)) if kind == "ed25519" else signed.new_secret(os.urandom(32))

    async def asked_for(self, hook: Hook) -> None:
        """CloudEvents' handshake: the receiver says by OPTIONS that it wants this. Refused 422."""
        try:
            answer = await ask(
                "OPTIONS", hook.url, [(b"webhook-request-origin", b"fairlead")], timeout=self.limits.timeout, guard=self.guard
            )
        except FairleadError as error:
            raise Refused(f"{hook.url} does not answer OPTIONS: {error}", status=422) from error
        allowed = answer.headers.get("webhook-allowed-origin", "")
        if answer.status // 100 != 2 or allowed not in ("*", "fairlead"):
            raise Refused(
                f"{hook.url} does not want it: OPTIONS gave {answer.status}, WebHook-Allowed-Origin {allowed!r}",
                status=422, hint='answer with WebHook-Allowed-Origin: fairlead, or "*"',
            )  # fmt: skip

    async def save(self, hook: Hook, version: int | None) -> None:
        """Store it, and tell whoever delivers."""
        hook.version = (await self.store.state.put_if(hook.name, hook.stored(), version)).version
        await self.tell()

    async def tell(self) -> None:
        """Hooks were changed."""
        self.poke()
        with suppress(StoreError):
            await self.store.log.append(CHANGES, [NewEvent(b"")], create=TopicConfig(max_events=1))

    async def change(self, topic: str, name: str, edit: Callable[[Hook], None]) -> Hook:
        """Read, edit, store; again when somebody else did meanwhile."""
        while True:
            hook = await self.get(topic, name)
            edit(hook)
            try:
                await self.save(hook, hook.version)
            except Conflict:
                continue
            return hook

    async def patch(self, topic: str, name: str, wanted: dict[str, Any]) -> Hook:
        """New url, types, or state (active, paused)."""
        if unknown := set(wanted) - {"url", "types", "state"}:
            raise Refused(f"unknown: {', '.join(sorted(unknown))}", status=400, hint="url, types and state can be changed")
        if wanted.get("state", "active") not in ("active", "paused"):
            raise Refused('`state` is "active" or "paused"', status=400)
        url = self.checked_url(wanted["url"]) if "url" in wanted else ""
        types = self.checked_types(wanted["types"]) if "types" in wanted else None

        def edit(hook: Hook) -> None:
            hook.url = url or hook.url
            hook.types = hook.types if types is None else types
            if "state" in wanted:
                hook.state, hook.reason, hook.failing, hook.paused = wanted["state"], "", 0.0, 0.0

        return await self.change(topic, name, edit)

    async def rotate(self, topic: str, name: str, wanted: dict[str, Any]) -> Hook:
        """A new key; the old one signs beside it for a day."""
        now = time.time()
        hook = await self.get(topic, name)
        given = dict(wanted)
        given.setdefault("kind", "hmac" if hook.keys[0][0].startswith(signed.SECRET) else "ed25519")
        key = self.key_for(given)

        def edit(hook: Hook) -> None:
            old = [[one, min(until or now + OLD_KEY, now + OLD_KEY)] for one, until in hook.keys if until is None or until > now]
            hook.keys = [[key, None], *old][:4]

        return await self.change(topic, name, edit)

    async def delete(self, topic: str, name: str) -> None:
        """It and what it had still to send."""
        hook = await self.get(topic, name)
        await self.store.state.delete_if(hook.name)
        await self.store.leases.drop(hook.name)
        with suppress(NoTopic):
            await self.store.log.delete(hook.journal)
        await self.tell()

    async def forget(self, topic: str) -> None:
        """The topic is gone: so are its hooks."""
        for hook in await self.listed(topic):
            with suppress(Refused):
                await self.delete(topic, hook.id)

    async def replay(self, topic: str, name: str, after: Any) -> None:
        """Send again everything after an offset. Refused 400, 410."""
        hook = await self.get(topic, name)
        try:
            await self.store.leases.seek(hook.name, self.checked_after(after, await self.store.log.head(topic)))
        except Gap as gap:
            raise Refused(f"{gap}", status=410, hint=f"the earliest offset is {gap.earliest}") from None
        await self.tell()

    async def attempts(self, topic: str, name: str, limit: int = 100) -> list[dict[str, Any]]:
        """The last attempts, newest first."""
        hook = await self.get(topic, name)
        try:
            head = await self.store.log.head(hook.journal)
            after = Offset(head.last.epoch, max(head.last.seq - limit, head.first.seq))
            batch = await self.store.log.read(hook.journal, after, limit)
        except (NoTopic, Gap):
            return []
        return [json.loads(event.data) for event in reversed(batch.events)]
