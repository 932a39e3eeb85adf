"""The outbox: events and jobs that are published with the application's own transaction, or not at all.

    async with connection.transaction():                                   # asyncpg
        await connection.execute("UPDATE orders SET paid = true WHERE id = $1", order)
        await write(connection, [Append("orders", [NewEvent(b"paid")])])     # a row in fairlead_outbox, in the same transaction

Writing to a database and publishing to a store are two commits, and whoever does both can die between them. So what is to be
published is written into a table of the application's database, in its transaction, and a relay (`relay`) moves it to the store
after the commit. The relay may repeat itself after a crash; the store drops the repeat, since each step of an entry has the entry's
id as its dedupe key, or can be seen to have been done.

The connection may be of `sqlite3`, `aiosqlite`, `asyncpg` or `psycopg` (3, sync or async). With a sync one `write` does not
await anything, and `write_sync` is the same for code that has no loop. The offset comes later: `write` gives the entry's id.

The table is made by the relay when it starts, and for SQLite by the first `write` too; who makes tables by migrations finds the
statements in `TABLES`. What is in it is JSON, so that any program can write entries.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .contract import Item, NewEvent, StoreError, TopicConfig

TABLES = {
    "sqlite": """CREATE TABLE IF NOT EXISTS fairlead_outbox (
  place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, made REAL NOT NULL, steps TEXT NOT NULL, failed TEXT)""",
    "postgresql": """CREATE TABLE IF NOT EXISTS fairlead_outbox (
  place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE, made float8 NOT NULL, steps text NOT NULL,
  failed text)""",
}
_INSERT = "INSERT INTO fairlead_outbox (id, made, steps) VALUES ({})"
_HINT = "give the connection of your own transaction: sqlite3, aiosqlite, asyncpg or psycopg 3"


@dataclass(frozen=True)
class Append:
    """Events for a topic, made as `create` says when there is none."""

    topic: str
    events: Sequence[NewEvent]
    create: TopicConfig | None = None


@dataclass(frozen=True)
class Put:
    """Items for a queue."""

    queue: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Set:
    """A key that must not be there yet; if it is, the entry was moved before."""

    key: str
    value: bytes
    ttl: float | None = None
    due: float | None = None


Step = Append | Put | Set


def pack(steps: Iterable[Step]) -> str:
    """Steps as the table keeps them."""
    return json.dumps([_pack(step) for step in steps], separators=(",", ":"))


def _pack(step: Step) -> dict[str, Any]:
    """One."""
    if isinstance(step, Append):
        events = [[_text(e.data), e.type, e.key, dict(e.headers)] for e in step.events]
        config = {name: getattr(step.create, name) for name in TopicConfig.__slots__} if step.create is not None else None
        return {"do": "append", "topic": step.topic, "events": events, "create": config}
    if isinstance(step, Put):
        items = [[i.id, _text(i.body), i.due, i.priority] for i in step.items]
        return {"do": "put", "queue": step.queue, "items": items}
    return {"do": "set", "key": step.key, "value": _text(step.value), "ttl": step.ttl, "due": step.due}


def unpack(text: str) -> list[Step]:
    """The inverse. ValueError, KeyError or TypeError for what is none."""
    steps: list[Step] = []
    for one in json.loads(text):
        if one["do"] == "append":
            config = TopicConfig(**one["create"]) if one.get("create") is not None else None
            events = [NewEvent(_bytes(data), kind, key, headers) for data, kind, key, headers in one["events"]]
            steps.append(Append(one["topic"], events, config))
        elif one["do"] == "put":
            steps.append(Put(one["queue"], [Item(i, _bytes(body), due, priority) for i, body, due, priority in one["items"]]))
        elif one["do"] == "set":
            steps.append(Set(one["key"], _bytes(one["value"]), one["ttl"], one["due"]))
        else:
            raise ValueError(f"no such step: {one['do']!r}")
    return steps


def _text(data: bytes) -> str:
    """Bytes in JSON: base64."""
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """The inverse."""
    return base64.b64decode(text, validate=True)


def kind(connection: Any) -> str:
    """Which driver a connection is of. StoreError when it is none that we know."""
    if isinstance(connection, sqlite3.Connection):
        return "sqlite3"
    for base in type(connection).__mro__:
        module = base.__module__.partition(".")[0]
        if module in ("aiosqlite", "asyncpg", "psycopg") and hasattr(connection, "execute"):
            if module == "psycopg" and "Async" in base.__name__:
                return "psycopg async"
            return module
    raise StoreError(f"conn: a {type(connection).__module__}.{type(connection).__name__} cannot hold an outbox entry", hint=_HINT)


def _outside(driver: str, connection: Any) -> bool:
    """Whether the connection is in no transaction, so that the entry would be committed by itself."""
    if driver == "asyncpg":
        return not connection.is_in_transaction()
    if driver.startswith("psycopg"):
        return bool(connection.autocommit) and connection.info.transaction_status.name == "IDLE"
    return connection.isolation_level is None and not connection.in_transaction


def _entry(connection: Any, steps: Iterable[Step], id: str | None) -> tuple[str, str, tuple[str, float, str]]:
    """The driver, the statement and its values."""
    driver = kind(connection)
    if _outside(driver, connection):
        raise StoreError("conn: this connection is in no transaction", hint="begin one, or publish without conn")
    marks = {"asyncpg": "$1, $2, $3", "psycopg": "%s, %s, %s", "psycopg async": "%s, %s, %s"}.get(driver, "?, ?, ?")
    return driver, _INSERT.format(marks), (id or uuid.uuid4().hex, time.time(), pack(steps))


async def write(connection: Any, steps: Iterable[Step], *, id: str | None = None) -> str:
    """Adds an entry to the transaction that the connection is in; its id. StoreError."""
    driver, sql, values = _entry(connection, steps, id)
    if driver == "asyncpg":
        await connection.execute(sql, *values)
    elif driver == "psycopg async":
        await connection.execute(sql, values)
    elif driver == "aiosqlite":
        await connection.execute(TABLES["sqlite"])
        await connection.execute(sql, values)
    else:
        _write(driver, connection, sql, values)
    return values[0]


def write_sync(connection: Any, steps: Iterable[Step], *, id: str | None = None) -> str:
    """The same on a connection that is not asynchronous."""
    driver, sql, values = _entry(connection, steps, id)
    if driver not in ("sqlite3", "psycopg"):
        raise StoreError(f"conn: {driver} is asynchronous", hint="await write(...)")
    _write(driver, connection, sql, values)
    return values[0]


def _write(driver: str, connection: Any, sql: str, values: tuple[str, float, str]) -> None:
    """By a connection that is not asynchronous."""
    if driver == "sqlite3":
        connection.execute(TABLES["sqlite"])
    connection.execute(sql, values)
