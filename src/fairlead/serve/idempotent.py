"""Idempotency keys: an unsafe request may be sent again, and is answered again, without being done again.

    POST + Idempotency-Key ── new ──▶ record "running" ─▶ the handler ─▶ record "done": head and body ─▶ the client
                           ── running ─▶ 409      ── done ─▶ the stored answer      ── holder lost ─▶ 409 outcome unknown

After draft-ietf-httpapi-idempotency-key-header-07. Rules
1. POST and PATCH only: the others are idempotent or safe as they are (RFC 9110 section 9.2.2). Without a key: as ever, or 400 where
   the route requires one.
2. A key is a structured-field string (quoted); a bare one is taken too. 1 to 255 characters. It belongs to the principal and the
   route: the same text from somebody else is another key.
3. The first request runs on a connection of its own (`serve.inner`), so it is finished and its answer kept even when its client
   leaves: that is the case a key is for.
4. While it runs: 409 and Retry-After. When it is done: status, fields and body again, marked `Idempotent-Replayed: true`, if the
   request is the same, by method, target, media type and body (a fingerprint); else 422.
5. The answer leaves when its record is stored, not before. Errors of the server (5xx) are answers too and are kept, like any other.
6. A record "running" whose holder stopped renewing it means that the process died in the middle; an answer that broke off, or an
   upstream that went away with the request, means the same: the outcome cannot be known. The default is at most once: 409 with
   `outcome unknown` until `keep` is over or somebody settles it: an operator (`settle`, by `fairlead idempotency`), or the
   handler's own `check`, a path that is asked with the key: 404 says that it was not done, and it is done now; 2xx that it was, and
   is the answer. A route that says `safe` declares that its handler may run again, and then it does.
7. What our own server refused before the handler had the request (a full queue, an upstream that cannot be reached) was not done:
   it is answered and not kept, so the same key may come again.
8. An answer longer than `most`, or one of unknown length that is not whole `stream` seconds after its head (an event stream), is
   passed on as it comes, and only its head is kept: a repeat is told so (409).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from fairlead.core.errors import FairleadError, Refused
from fairlead.core.exchange import Answer, Exchange
from fairlead.core.handler import Handler
from fairlead.core.message import Request, Response
from fairlead.serve.inner import Asked, Gather, Hear, Inner
from fairlead.store.contract import Conflict, Entry, State, Store, StoreError

KEPT_BODY = 1 << 20  # bytes of an answer
TERM = 10.0  # seconds a running record outlives its holder
KEY = re.compile(rb'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([!#$%&\'*+\-.^_`|~:/0-9A-Za-z=]+)')
LONGEST = 255
STREAM = 5.0  # seconds after its head in which an answer has to be whole
CHECK = 10.0  # seconds that a handler's own check may take
CARRIED = (b"authorization", b"cookie", b"host", b"idempotency-key")  # fields of the request that the check is asked with
quoted = json.encoder.encode_basestring_ascii  # a text as JSON: records are written by hand, which takes half as long
ROOT = "idem/"
HOPS = (b"connection", b"date", b"server", b"transfer-encoding", b"keep-alive", b"content-length", b"server-timing")


def key_of(value: bytes) -> str:
    """The key that a field's value is. Refused 400."""
    match = KEY.fullmatch(value.strip())
    text = "" if match is None else (match[1] if match[1] is not None else match[2]).decode()
    if not 0 < len(text) <= LONGEST:
        raise Refused(
            f"Idempotency-Key is not a text of 1 to {LONGEST} characters", status=400, hint='write it in quotes, as "8e03978e-40d5"'
        )
    return text


class Idempotent(Handler):
    """Stands before a route's handler. `required`: 400 without a key; `safe`: run again when the outcome is unknown."""

    def __init__(
        self, handler: Handler, store: Store, *, required: bool = False, keep: float = 86400.0, safe: bool = False,
        most: int = KEPT_BODY, term: float = TERM, scope: str = "", check: str = "", stream: float = STREAM,
    ) -> None:  # fmt: skip
        self.handler, self.store, self.state = handler, store, store.state
        self.required, self.keep, self.safe, self.most, self.term = required, keep, safe, most, term
        self.scope, self.check, self.stream = scope, check, stream
        self.inner: Inner | None = None
        self.me = os.urandom(6).hex()
        self.tasks: set[asyncio.Task[None]] = set()

    def open(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method not in ("POST", "PATCH"):  # type: ignore[attr-defined]
            self.handler.open(exchange)
            return
        value = request.get(b"idempotency-key")  # type: ignore[attr-defined]
        if value is None:
            if self.required:
                raise Refused(
                    "this route needs an Idempotency-Key", status=400, hint="send one that is new for each thing to be done"
                )
            self.handler.open(exchange)
            return
        key = key_of(value)
        name = self.place(exchange, key)
        if self.inner is None:
            self.inner = Inner(exchange.conn.service)  # type: ignore[attr-defined]
        once = Once(self, exchange, name, key)
        exchange.answer = once
        task = asyncio.get_running_loop().create_task(once.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def place(self, exchange: Exchange, key: str) -> str:
        """Where the record is: principal, route and key, hashed, so that no text of a client is a name in the store."""
        whose = f"{exchange.principal or ''}\0{self.scope}\0{key}"  # type: ignore[attr-defined]
        return ROOT + hashlib.sha256(whose.encode()).hexdigest()[:40]


async def unknown(state: State) -> list[dict[str, Any]]:
    """Keys whose outcome is unknown: [{id, key, who, route, at}], oldest first, at most a hundred."""
    found = []
    for name, entry in await state.scan_due(ROOT):
        record = json.loads(entry.value.partition(b"\n")[0])
        if record["state"] != "done":
            found.append({"id": name.removeprefix(ROOT)} | {word: record.get(word) for word in ("key", "who", "route", "at")})
    return found


async def settle(state: State, name: str, status: int = 0, body: bytes = b"", keep: float = 86400.0) -> bool:
    """Somebody knows better. `status` 0: it was not done, and the key may be used again; else it was, and that is the answer.

    `name` is the record's, with or without its root. False when its outcome is not unknown.
    """
    name = ROOT + name.removeprefix(ROOT)
    entry = await state.get(name)
    if entry is None or json.loads(entry.value.partition(b"\n")[0])["state"] == "done" or entry.due is None:
        return False
    if name not in [known for known, _ in await state.scan_due(ROOT, 10_000)]:
        return False
    if not status:
        return await state.delete_if(name, entry.version)
    await state.put_if(name, done_record(status, [], body), entry.version, ttl=keep)
    return True


def done_record(status: int, headers: list[list[str]], body: bytes, fingerprint: str = "", long: bool = False) -> bytes:
    """What is kept of an answer. Without a fingerprint it answers any request with the key."""
    fields = ", ".join([f"[{quoted(name)}, {quoted(value)}]" for name, value in headers])
    last = f'"status": {status}, "headers": [{fields}], "long": {"true" if long else "false"}'
    return f'{{"state": "done", "print": {quoted(fingerprint)}, {last}}}\n'.encode() + body


def fields_of(response: Any) -> list[list[str]]:
    """The fields of an answer that are kept."""
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.headers if name not in HOPS]


class Once(Answer):
    """One request with a key: hears the client, and the handler's answer."""

    def __init__(self, owner: Idempotent, exchange: Exchange, name: str, key: str) -> None:
        self.owner, self.exchange, self.name, self.key = owner, exchange, name, key
        self.mark = b""  # the record while it is running
        request: Any = exchange.request
        kind = (request.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        self.print = hashlib.sha256(b"\0".join([request.method.encode(), request.target, kind, b""]))
        self.held: list[tuple[bytes, bool]] = []  # of the request's body, until it is known what becomes of it
        self.sink: Any = None  # an Asked, or True: only read
        self.read = exchange.heard_end  # the whole request was heard
        self.whole = asyncio.Event()
        if self.read:
            self.whole.set()
        self.asked: Asked | None = None
        self.response: Response | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.passed = False  # longer than may be kept: it goes straight on, but for its end
        self.last = b""
        self.trailers: Any = None
        self.finished = asyncio.Event()
        self.failure: FairleadError | None = None
        self.version = 0
        self.timer: asyncio.TimerHandle
        self.slow: asyncio.TimerHandle | None = None

    # ---- the client

    def data(self, chunk: bytes, end: bool) -> bool:
        if self.sink is None:
            self.held.append((chunk, end))
            return False
        return self.pour(chunk, end)

    def pour(self, chunk: bytes, end: bool) -> bool:
        """A part of the body, to the fingerprint and to whoever takes it. True when it may be credited at once."""
        self.print.update(chunk)
        if end:
            self.read = True
            self.whole.set()
        if isinstance(self.sink, Asked):
            self.sink.data(chunk, end)
            return False
        return True

    def end(self, trailers: Any) -> None:
        if self.response is not None or self.finished.is_set():
            return
        self.pour(b"", True) if self.sink is not None else self.held.append((b"", True))

    def reset(self, why: Any, side: str) -> None:
        if not self.read:  # half a request is none: the handler hears that its client is gone
            self.failure = why
            if self.asked is not None:
                self.asked.cancel(why)
            self.whole.set()
            self.finished.set()
        elif self.asked is not None:
            self.asked.room()  # nobody takes the answer any more, and it is finished all the same

    def room(self) -> None:
        if self.asked is not None:
            self.asked.room()

    def flow(self, sink: Any) -> None:
        """From now on the body goes there."""
        self.sink = sink
        held, self.held = self.held, []
        for chunk, end in held:
            if self.pour(chunk, end) and chunk:
                self.exchange.credit(len(chunk))

    # ---- the handler's answer

    def said(self, chunk: bytes, end: bool) -> bool:
        """A part of the answer."""
        exchange = self.exchange
        if self.passed:
            if end:
                self.last = chunk
                self.finished.set()
            return end or exchange.over or exchange.data(chunk, False)
        self.parts.append(chunk)
        self.size += len(chunk)
        if self.size > self.owner.most and not end:
            return self.pass_on()
        if end:
            self.finished.set()
        return True

    def pass_on(self) -> bool:
        """It is not kept: from now on it goes straight to the client."""
        exchange = self.exchange
        self.passed = True
        parts, self.parts = self.parts, []
        if exchange.over:
            return True
        exchange.head(self.response, False)
        return exchange.data(b"".join(parts), False) if parts else True

    def too_slow(self) -> None:
        """Rule 8."""
        if not self.passed and not self.finished.is_set():
            self.pass_on()

    def done(self, trailers: Any) -> None:
        """Its end."""
        self.trailers = trailers
        self.finished.set()

    # ---- the course of it

    async def run(self) -> None:
        """Look, then run, replay or refuse."""
        exchange = self.exchange
        try:
            entry = await self.begin()
            if entry is None:
                await self.execute()
            else:
                await self.repeat(entry)
        except FairleadError as error:
            if not exchange.over:
                exchange.fail(error)
        except Exception as error:
            exchange.conn.raised(exchange, error)  # type: ignore[attr-defined]

    async def begin(self) -> Entry | None:
        """Make the record, or give the one that is there and counts."""
        state, owner = self.owner.state, self.owner
        now = await owner.store.now()
        who = self.exchange.principal  # type: ignore[attr-defined]
        whose = f'"key": {quoted(self.key)}, "who": {json.dumps(who) if who else "null"}, "at": {now:.3f}'
        self.mark = f'{{"state": "running", "by": {quoted(owner.me)}, "route": {quoted(owner.scope)}, {whose}}}'.encode()
        entry: Entry | None = None
        for _ in range(8):  # a key is new most of the time: so it is tried first, and what is there comes with the refusal
            version = 0
            if entry is not None:
                there = json.loads(entry.value.partition(b"\n")[0])
                if there["state"] == "unknown" or (there["state"] == "running" and await self.late(entry)):
                    found = await self.settled(entry)
                    if found is not None:
                        return found
                    version = entry.version
                else:
                    return entry
            try:
                made = await state.put_if(self.name, self.mark, version, ttl=owner.keep, due=await self.until())
            except Conflict as conflict:
                entry = conflict.entry
                continue
            self.version = made.version
            return None
        raise Refused("too many requests with this key at once", status=409, after=1)

    async def settled(self, entry: Entry) -> Entry | None:
        """An unknown outcome: the record that it comes to, or None to do it (again). Refused 409."""
        owner = self.owner
        if owner.safe:
            return None
        if owner.check:
            heard = await self.checked()
            status = heard.response.status if heard is not None and heard.response is not None else 0
            if status == 404:
                return None
            if heard is not None and 200 <= status < 300:
                value = done_record(status, fields_of(heard.response), b"".join(heard.parts))
                with suppress(Conflict):
                    return await owner.state.put_if(self.name, value, entry.version, ttl=owner.keep)
        raise Refused(
            "outcome unknown: it broke off while this was being done", status=409,
            hint="find out what happened, then use a new key, or have the operator settle this one",
        )  # fmt: skip

    async def checked(self) -> Gather | None:
        """What the handler's own check says; None when it says nothing."""
        owner, given = self.owner, self.exchange.request
        assert owner.inner is not None
        target = owner.check.encode()
        headers = [(name, value) for name, value in list(given.headers) if name in CARRIED]  # type: ignore[attr-defined]
        request: Any = Request("GET", given.scheme, given.authority, target, headers, given.version, 0)  # type: ignore[attr-defined]
        raw, _, query = target.partition(b"?")
        request.path, request.raw_path, request.query = unquote(raw.decode("latin-1")), raw, query
        heard = Gather(owner.most)
        asked = heard.asked = owner.inner.ask(owner.handler, request, heard, like=self.exchange)
        try:
            async with asyncio.timeout(CHECK):
                await heard.over.wait()
        except TimeoutError:
            asked.cancel()
            return None
        return heard if heard.why is None else None

    async def until(self) -> float:
        """When the record counts as its holder's death, should nobody renew it."""
        return await self.owner.store.now() + self.owner.term

    async def late(self, entry: Entry) -> bool:
        """Nobody renews it."""
        return entry.due is not None and entry.due < await self.owner.store.now()

    async def execute(self) -> None:
        """Run the handler, keep its answer, give it."""
        owner, exchange = self.owner, self.exchange
        assert owner.inner is not None
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(owner.term / 3, self.renew)
        try:
            request = copy_of(exchange.request)
            self.asked = owner.inner.ask(owner.handler, request, Said(self), like=exchange, body=not self.read)
            self.flow(self.asked)
            await self.finished.wait()
        finally:
            self.timer.cancel()
            if self.slow is not None:
                self.slow.cancel()
        if self.failure is not None:
            # half a request is none; an answer that broke off may have been done
            await (self.forget() if not self.read else self.lose())
            raise self.failure
        error: Any = self.asked.exchange.error
        if isinstance(error, FairleadError) and error.retry == "always":
            await self.forget()
        elif isinstance(error, FairleadError) and error.side == "upstream":
            await self.lose()
        else:
            await self.store()
        if exchange.over:
            return
        if not self.passed:
            self.give(self.response, b"".join(self.parts))
        elif self.last or self.trailers is None:
            exchange.data(self.last, True)
        else:
            exchange.end(self.trailers)

    def give(self, response: Any, body: bytes) -> None:
        """The answer, to the client."""
        exchange = self.exchange
        if self.trailers is None or not body:
            exchange.whole(response, body)
            return
        exchange.head(response, False)
        exchange.data(body, False)
        exchange.end(self.trailers)

    def renew(self) -> None:
        """Say that the holder lives; and again, until it is over."""
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(self.owner.term / 3, self.renew)
        task = loop.create_task(self.renewed())
        self.owner.tasks.add(task)
        task.add_done_callback(self.owner.tasks.discard)

    async def renewed(self) -> None:
        """The record, for another term."""
        owner = self.owner
        with suppress(StoreError):
            made = await owner.state.put_if(self.name, self.mark, self.version, ttl=owner.keep, due=await self.until())
            self.version = max(made.version, self.version)

    async def store(self) -> None:
        """The record, done. A store that fails now leaves it running, so a repeat hears that the outcome is unknown."""
        response = self.response
        assert response is not None
        body = b"" if self.passed else b"".join(self.parts)
        await self.put(done_record(response.status, fields_of(response), body, self.print.hexdigest(), self.passed))

    async def lose(self) -> None:
        """The record, unknown: unless the handler may run again."""
        if self.owner.safe:
            await self.forget()
            return
        record = json.loads(self.mark) | {"state": "unknown"}
        with suppress(StoreError):
            await self.put(json.dumps(record).encode(), await self.owner.store.now())

    async def put(self, value: bytes, due: float | None = None) -> None:
        """Write the record over the running one."""
        while True:
            try:
                await self.owner.state.put_if(self.name, value, self.version, ttl=self.owner.keep, due=due)
                return
            except Conflict as conflict:  # our own renewal came between
                if conflict.entry is None or conflict.entry.value != self.mark:
                    raise Refused("outcome unknown: the record was taken over", status=409) from None
                self.version = conflict.entry.version

    async def forget(self) -> None:
        """Nothing was done: the key may be used again."""
        for _ in range(2):
            try:
                await self.owner.state.delete_if(self.name, self.version)
                return
            except Conflict as conflict:
                if conflict.entry is None or conflict.entry.value != self.mark:
                    return
                self.version = conflict.entry.version
            except StoreError:
                return

    async def repeat(self, entry: Entry) -> None:
        """A request whose key is known."""
        head, _, body = entry.value.partition(b"\n")
        record = json.loads(head)
        if record["state"] == "running":
            self.flow(True)
            raise Refused("the first request with this Idempotency-Key is still being done", status=409, after=1)
        self.flow(True)
        await self.whole.wait()
        if self.failure is not None:
            return
        if record["print"] and self.print.hexdigest() != record["print"]:
            raise Refused(
                "this Idempotency-Key was used for another request", status=422, hint="use a new key for a new request"
            )
        if record["long"]:
            raise Refused(
                f"it was done, with status {record['status']}, but its answer was too long, or too slow, to be kept", status=409
            )
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in record["headers"]]
        fields += [(b"idempotent-replayed", b"true")]
        if record["status"] != 204:
            fields.append((b"content-length", b"%d" % len(body)))
        if not self.exchange.over:
            self.exchange.whole(Response(record["status"], fields, len(body)), body)


class Said(Hear):
    """The handler's side of a `Once`."""

    def __init__(self, once: Once) -> None:
        self.once = once

    def head(self, response: Response) -> None:
        once = self.once
        once.response = response
        if not 0 <= response.length <= once.owner.most:  # it may be one that does not end
            once.slow = asyncio.get_running_loop().call_later(once.owner.stream, once.too_slow)

    def data(self, chunk: bytes, end: bool) -> bool:
        return self.once.said(chunk, end)

    def end(self, trailers: Any) -> None:
        self.once.done(trailers)

    def failed(self, why: FairleadError) -> None:
        once = self.once
        once.failure = why
        once.finished.set()

    def credited(self, count: int) -> None:
        exchange = self.once.exchange
        if not exchange.over:
            exchange.credit(count)


def copy_of(request: Any) -> Any:
    """The same request for the inner exchange: the outer one's fields may be read to the end of its journey."""
    headers = list(request.headers)
    made = Request(request.method, request.scheme, request.authority, request.target, headers, request.version, request.length)
    made.path, made.raw_path, made.query = request.path, request.raw_path, request.query
    return made

