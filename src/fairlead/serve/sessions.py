"""Sessions: what a server remembers of a client from one request to the next, behind a cookie. The application sees a dict.

    scope["session"] (ASGI, where Starlette's `request.session` looks), environ["fairlead.session"] (WSGI)
    session["cart"] = [7]            kept when the answer's head leaves; JSON values only
    session.owner = "ann"            whose it is, so that all of ann's can be revoked
    session.rotate()                 another id from now on, the old one is void at once: call it after every login
    session.destroy()                the end of it
    await fairlead.revoke_sessions("ann")        everywhere (where = "worker": in this worker)

Where they live (`where`), and what that means:

| | worker: this process's memory | store | token: in the cookie, encrypted |
|---|---|---|---|
| state | in the worker: stateful | in the store: the workers are stateless | with the client: the server is stateless |
| the next request | must reach the same worker | any worker, any node | any worker, any node that has the secret |
| a worker's restart | forgets it | nothing | nothing |
| costs | nothing | a read per request with a cookie | a decryption; bytes on every request |
| revocation | at once | at once | not before it expires, unless `revocable` (a read per request) |

Rules
1. The cookie is HttpOnly, SameSite=Lax unless told otherwise, and Secure where the request came by https. The id in it has 256
   random bits; the store knows only its hash, so who reads the store cannot log in.
2. An id that we did not give out is no session: it is never adopted (session fixation).
3. Nothing is stored for who has nothing: an empty session has no cookie, and one that became empty loses it.
4. Changes are found by comparing, so nested ones count. Two requests at once both keep what they changed: by top-level key, the
   later one wins. What was revoked meanwhile is not brought back.
5. Changes after the head has left are kept too, except in a token: its cookie has gone.
6. A session lives for `keep` after it was used last. Using it is noted when a quarter of that is over, not on each request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

from fairlead.core.errors import AppError

Fields = list[tuple[bytes, bytes]]
here: WeakSet[Any] = WeakSet()  # the keeps of this process, for `revoke_sessions`


class Session(dict[str, Any]):
    """One client's. `id` names it in logs (it is not the cookie); `new`: it was not there when the request came."""

    def __init__(self, data: dict[str, Any] | None = None, *, id: str = "", owner: str = "", created: float = 0.0) -> None:
        super().__init__(data or {})
        self.id, self.owner, self.created = id, owner, created
        self.new = not id
        self.rotated = self.destroyed = self.stale = False
        self.cookie = ""  # what the client has
        self.was, self.was_owner = dict_of(canonical(self)), owner
        self.place: Any = None  # of the keep

    def rotate(self) -> None:
        """Another id from now on; the old one is void at once."""
        self.rotated = True

    def destroy(self) -> None:
        """The end of it: what it holds is gone, and the cookie too."""
        self.clear()
        self.owner = ""
        self.destroyed = True

    @property
    def changed(self) -> bool:
        """Whether there is something to keep."""
        return self.was_owner != self.owner or dict_of(canonical(self)) != self.was

    def kept(self) -> None:
        """It is as it is kept."""
        self.was, self.was_owner = dict_of(canonical(self)), self.owner
        self.rotated = self.stale = self.new = False

    def merged(self, other: dict[str, Any]) -> dict[str, Any]:
        """What somebody else kept meanwhile, with what was changed here."""
        found = dict(other)
        for name in {*self.was, *self}:
            if self.get(name) != self.was.get(name) or (name in self) != (name in self.was):
                if name in self:
                    found[name] = self[name]
                else:
                    found.pop(name, None)
        return found


class Keep(Protocol):
    """Where sessions live. `lasting`: what is changed after the answer's head can still be kept."""

    lasting: bool

    async def load(self, cookie: str) -> Session | None:
        """The session of a cookie; None when it is none of ours, or over."""

    async def save(self, session: Session) -> str | None:
        """Keep it: the cookie's value from now on; None when what the client has stays right."""

    async def drop(self, session: Session) -> None:
        """It is over."""

    async def revoke(self, owner: str) -> int:
        """All of an owner's are over; how many are known to be."""


@dataclass(frozen=True)
class Cookie:
    """How the cookie is written. `keep` in seconds."""

    name: str = "session"
    keep: float = 86400.0
    samesite: str = "lax"
    domain: str = ""
    path: str = "/"

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Its value in a request's fields; "" for none."""
        for name, value in headers:
            if name == b"cookie":
                found = self.of(value.decode("latin-1"))
                if found:
                    return found
        return ""

    def of(self, line: str) -> str:
        """Its value in one Cookie field."""
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.name:
                return value.strip('"')
        return ""

    def written(self, value: str, secure: bool) -> str:
        """A Set-Cookie field; an empty value takes it away."""
        parts = [f"{self.name}={value}", f"Path={self.path}", f"Max-Age={round(self.keep) if value else 0}", "HttpOnly"]
        parts.append(f"SameSite={self.samesite.capitalize()}")
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if secure or self.samesite == "none" or self.name.startswith("__"):
            parts.append("Secure")
        return "; ".join(parts)


class Sessions:
    """Stands around an application."""

    def __init__(self, keep: Keep, cookie: Cookie) -> None:
        self.keep, self.cookie = keep, cookie

    async def load(self, value: str) -> Session:
        """The session of a request."""
        found = await self.keep.load(value) if value else None
        if found is None:
            found = Session()
            found.cookie = value  # not one of ours: taken away when there is nothing to put in its place
        return found

    async def settle(self, session: Session, secure: bool) -> Fields:
        """Keep what was changed: the fields that the answer's head needs for it."""
        fields: Fields = []
        value: str | None = None
        empty = not session and not session.owner
        if (session.destroyed or empty) and not session.new:
            await self.keep.drop(session)
            session.place, session.id, session.new = None, "", True
        if empty:
            value = "" if session.cookie else None
        elif session.new or session.changed or session.rotated or session.stale:
            value = await self.keep.save(session)
        if value is not None:
            session.cookie = value
            fields.append((b"set-cookie", self.cookie.written(value, secure).encode("latin-1")))
        if value is not None or session.cookie:
            fields.append((b"vary", b"cookie"))
        return fields

    async def late(self, session: Session) -> None:
        """After the answer: what was changed when its head had left."""
        if session.new or not self.keep.lasting or not (session.destroyed or session.changed):
            return
        if session.destroyed:
            await self.keep.drop(session)
        else:
            session.cookie, session.rotated = "", False  # the client will go on using the id that it has
            await self.keep.save(session)

    def asgi(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """An ASGI application with sessions."""

        async def with_session(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
                return
            session = scope["session"] = await self.load(self.cookie.find(scope["headers"]))
            secure = scope.get("scheme") in ("https", "wss")
            said = False

            async def sending(message: dict[str, Any]) -> None:
                nonlocal said
                if not said and message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                    said = True
                    if fields := await self.settle(session, secure):
                        message = {**message, "headers": [*message.get("headers", ()), *fields]}
                await send(message)

            await app(scope, receive, sending)
            if said:
                await self.late(session)

        return with_session

    def wsgi(self, app: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        """A WSGI application with sessions, called in threads beside the loop."""

        def wait(work: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(30)

        def with_session(environ: dict[str, Any], start_response: Any) -> Any:
            value = self.cookie.of(environ.get("HTTP_COOKIE", ""))
            session = environ["fairlead.session"] = wait(self.load(value)) if value else Session()

            def starting(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
                if session or session.cookie or session.destroyed or session.owner:
                    fields = wait(self.settle(session, environ.get("wsgi.url_scheme") == "https"))
                    headers = [*headers, *((name.decode(), text.decode("latin-1")) for name, text in fields)]
                return start_response(status, headers, *more)

            return app(environ, starting)

        return with_session


def canonical(session: dict[str, Any]) -> bytes:
    """A session's values as JSON. AppError names what is none."""
    for name in session:
        if not isinstance(name, str):
            raise AppError(f"a session's keys are texts, not {name!r}")
    try:
        return json.dumps(session, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AppError(f"a session holds what is no JSON value: {error}", hint="keep numbers, texts, lists and mappings") from None


def dict_of(text: bytes) -> dict[str, Any]:
    """The other way."""
    found: dict[str, Any] = json.loads(text)
    return found


async def revoke_sessions(owner: str) -> int:
    """End every session whose `owner` this is, of every route of this server; how many are known to have ended.

    Sessions in tokens end only where the route says `revocable`; those in a worker's memory only in the worker that is asked.
    """
    return sum([await keep.revoke(owner) for keep in list(here)])
