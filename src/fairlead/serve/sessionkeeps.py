"""Where sessions live: `Kept` in a State (the store's, or `Local`, one process's memory), `Sealed` in the cookie itself.

Kept: a record at the hash of the cookie's id, `{"id", "owner", "created", "seen", "turned", "data"}`, and one at the hash of its
owner for revocation. With `turn` seconds the id is changed so often by itself; the old one is an alias for OVERLAP, for requests
under way.

Sealed: Fernet tokens (AES-128-CBC and HMAC-SHA256, from `cryptography`) under keys derived by HKDF from the configured secrets.
The first secret seals, all of them open: put a new one in front, and the old one away when `keep` is over. With a State it is
revocable: an id that was destroyed, and everything of an owner from before a moment, is written down there until it would have
expired anyway.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.core.errors import AppError, ConfigError
from fairlead.serve.sessions import Session, canonical, dict_of
from fairlead.store.contract import Conflict, Entry, State

ROOT, OWNERS, VOID, SINCE = "session/", "session-of/", "session-void/", "session-since/"
OVERLAP = 30.0  # seconds an id that was turned still works
LARGEST = 64 << 10  # bytes of one session
COOKIE = 3800  # bytes of a token: browsers keep 4096 with name and attributes (RFC 6265 section 6.1)
LOCAL = 100_000  # sessions of one worker's memory; the one not used for longest goes first
SHORTEST = 32  # characters of a secret


def hashed(text: str) -> str:
    """A name in the store that does not give away what it is of."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class Local:
    """One process's memory, as far as sessions need a State of it. At most `most` keys."""

    def __init__(self, most: int = LOCAL, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.clock = most, clock
        self.entries: OrderedDict[str, tuple[Entry, float]] = OrderedDict()
        self.version = 0

    async def get(self, key: str) -> Entry | None:
        found = self.entries.get(key)
        if found is None or found[1] <= self.clock():
            self.entries.pop(key, None)
            return None
        self.entries.move_to_end(key)
        return found[0]

    async def put_if(
        self, key: str, value: bytes, version: int | None, *, ttl: float | None = None, due: float | None = None
    ) -> Entry:
        old = await self.get(key)
        if version is not None and version != (old.version if old is not None else 0):
            raise Conflict(f"{key} is another by now")
        self.version += 1
        entry = Entry(value, self.version)
        self.entries[key] = (entry, self.clock() + (ttl if ttl is not None else 1e12))
        self.entries.move_to_end(key)
        while len(self.entries) > self.most:
            self.entries.popitem(last=False)
        return entry

    async def delete_if(self, key: str, version: int | None = None) -> bool:
        return self.entries.pop(key, None) is not None

    async def scan(self, prefix: str, after: str = "", limit: int = 1000) -> list[tuple[str, Entry]]:
        names = sorted(name for name in list(self.entries) if name.startswith(prefix) and name > after)[:limit]
        return [(name, entry) for name in names if (entry := await self.get(name)) is not None]


class Kept:
    """Sessions in a State, behind an id in the cookie. Times in seconds."""

    lasting = True  # what is changed after the answer's head can be kept

    def __init__(
        self, state: State | Local, keep: float, *, turn: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.state, self.keep, self.turn, self.clock = state, keep, turn, clock

    async def load(self, cookie: str) -> Session | None:
        name = ROOT + hashed(cookie)
        record, version = await self.read(name)
        if record is not None and "alias" in record:
            name = record["alias"]
            record, version = await self.read(name)
            cookie = ""  # whoever turned it has the new one
        if record is None:
            return None
        session = Session(record["data"], id=record["id"], owner=record["owner"], created=record["created"])
        session.cookie, session.place = cookie, (name, version, record["turned"])
        now = self.clock()
        turns = bool(cookie) and self.turn is not None and now - record["turned"] > self.turn
        session.stale = turns or now - record["seen"] > self.keep / 4
        return session

    async def read(self, name: str) -> tuple[dict[str, Any] | None, int]:
        """(record, version)."""
        entry = await self.state.get(name)
        return (json.loads(entry.value), entry.version) if entry is not None else (None, 0)

    async def save(self, session: Session) -> str | None:
        now = self.clock()
        if session.place is None:
            return await self.fresh(session, now)
        name, version, turned = session.place
        if session.rotated:
            await self.forget(session)
            return await self.fresh(session, now)
        if session.cookie and self.turn is not None and now - turned > self.turn:
            return await self.turned(session, now)
        data, owner = dict(session), session.owner
        while True:
            try:
                entry = await self.put(name, session, data, now, turned, version)
                break
            except Conflict:
                record, version = await self.read(name)
                if record is None or "alias" in record:
                    return ""  # revoked, or over, meanwhile
                data = session.merged(record["data"])
                session.owner = owner if owner != session.was_owner else record["owner"]
        session.place = (name, entry.version, turned)
        if session.owner and (session.stale or session.owner != session.was_owner):
            await self.own(session, name)
        session.kept()
        return None

    async def put(self, name: str, session: Session, data: dict[str, Any], now: float, turned: float, version: int | None) -> Entry:
        """Write a record. Conflict, AppError when it is too large."""
        record = {"id": session.id, "owner": session.owner, "created": session.created, "seen": now, "turned": turned}
        value = json.dumps(record | {"data": dict_of(canonical(data))}, ensure_ascii=False).encode()
        if len(value) > LARGEST:
            raise AppError(f"a session of {len(value)} bytes is too large", hint=f"at most {LARGEST}: keep what is big elsewhere")
        return await self.state.put_if(name, value, version, ttl=self.keep)

    async def fresh(self, session: Session, now: float) -> str:
        """Under a new id."""
        cookie = secrets.token_urlsafe(32)
        name = ROOT + hashed(cookie)
        session.id = session.id if session.id and not session.rotated else hashed(name)[:16]
        session.created = session.created or now
        entry = await self.put(name, session, dict(session), now, now, 0)
        session.place = (name, entry.version, now)
        if session.owner:
            await self.own(session, name)
        session.kept()
        return cookie

    async def turned(self, session: Session, now: float) -> str | None:
        """Under a new id, the old one an alias for requests under way. Who loses the race keeps what there is."""
        old, version, _ = session.place
        cookie = secrets.token_urlsafe(32)
        name = ROOT + hashed(cookie)
        entry = await self.put(name, session, dict(session), now, now, 0)
        try:
            await self.state.put_if(old, json.dumps({"alias": name}).encode(), version, ttl=OVERLAP)
        except Conflict:
            await self.state.delete_if(name)
            return None
        session.place = (name, entry.version, now)
        if session.owner:
            await self.own(session, name)
        session.kept()
        return cookie

    async def own(self, session: Session, name: str) -> None:
        """Note whose it is."""
        await self.state.put_if(f"{OWNERS}{hashed(session.owner)}/{name}", b"", None, ttl=self.keep)

    async def forget(self, session: Session) -> None:
        """The record is gone."""
        name = session.place[0]
        await self.state.delete_if(name)
        if session.was_owner:
            await self.state.delete_if(f"{OWNERS}{hashed(session.was_owner)}/{name}")

    async def drop(self, session: Session) -> None:
        if session.place is not None:
            await self.forget(session)

    async def revoke(self, owner: str) -> int:
        prefix, count = f"{OWNERS}{hashed(owner)}/", 0
        while found := await self.state.scan(prefix):
            for name, _ in found:
                count += await self.state.delete_if(name.removeprefix(prefix))
                await self.state.delete_if(name)
        return count


class Sealed:
    """Sessions wholly in the cookie. `state` makes them revocable. ConfigError for secrets that are none."""

    lasting = False

    def __init__(
        self, given: Sequence[str], keep: float, state: State | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        from cryptography.fernet import Fernet

        if not given or min(map(len, given)) < SHORTEST:
            hint = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
            raise ConfigError(f"sessions in tokens need secrets of at least {SHORTEST} characters", hint=hint)
        self.boxes = [Fernet(derived(one)) for one in given]
        self.keep, self.state, self.clock = keep, state, clock

    async def load(self, cookie: str) -> Session | None:
        from cryptography.fernet import InvalidToken

        now = self.clock()
        for place, box in enumerate(self.boxes):
            try:
                opened = box.decrypt_at_time(cookie.encode(), int(self.keep), int(now))
                sealed = box.extract_timestamp(cookie.encode())
            except (InvalidToken, ValueError):
                continue
            said = json.loads(opened)
            session = Session(said["data"], id=said["id"], owner=said["owner"], created=said["created"])
            session.cookie = cookie
            session.stale = place > 0 or now - sealed > self.keep / 4
            session.place = True
            return None if await self.void(session) else session
        return None

    async def void(self, session: Session) -> bool:
        """Whether it was revoked."""
        if self.state is None:
            return False
        asked = [self.state.get(VOID + session.id)]
        if session.owner:
            asked.append(self.state.get(SINCE + hashed(session.owner)))
        dead, *since = await asyncio.gather(*asked)
        return dead is not None or bool(since and since[0] is not None and session.created <= float(since[0].value))

    async def save(self, session: Session) -> str | None:
        if session.place is not None and (session.rotated or session.owner != session.was_owner):
            await self.drop(session)
            session.id = ""
        if not session.id:
            session.id, session.created = secrets.token_hex(16), self.clock()
        said = {"id": session.id, "owner": session.owner, "created": session.created, "data": dict_of(canonical(session))}
        value = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
        token = self.boxes[0].encrypt_at_time(value, int(self.clock())).decode()
        if len(token) > COOKIE:
            raise AppError(f"a session of {len(token)} bytes is too large for a cookie", hint='where = "store" takes larger ones')
        session.place = True
        session.kept()
        return token

    async def drop(self, session: Session) -> None:
        if self.state is not None and session.id:
            await self.state.put_if(VOID + session.id, b"1", None, ttl=self.keep)

    async def revoke(self, owner: str) -> int:
        if self.state is not None:
            await self.state.put_if(SINCE + hashed(owner), repr(self.clock()).encode(), None, ttl=self.keep)
        return 0


def derived(secret: str) -> bytes:
    """A Fernet key from a secret (RFC 5869)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(hashes.SHA256(), 32, None, b"fairlead session v1").derive(secret.encode())
    return base64.urlsafe_b64encode(key)
