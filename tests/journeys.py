"""Fabricated journeys for the tests of what observes them: real exchanges on real connections, with times made up."""

from __future__ import annotations

from fairlead.core.carrier import Carrier
from fairlead.core.connection import Connection
from fairlead.core.exchange import Exchange
from fairlead.core.handler import Handler, Service
from fairlead.core.journey import Journey
from fairlead.core.message import Request, Response

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
SERVICE = Service(Handler())


def connection(port: int = 40000, peer: object = None) -> Connection:
    """A connection without a socket."""
    return Connection(SERVICE, Carrier(), peer or ("192.0.2.7", port), ("127.0.0.1", 8000))


def journey(start: int = 10 * SECOND, process: int = 5 * MS, first: bool = False, leg: bool = False) -> Journey:
    """A request that arrived at `start`: 40 us in the buffer, 10 in the loop, then read, parsed, answered, sent.

    `first` on its connection: 2 ms accepted and 8 ms of TLS before, with a second of idling between. `leg`: proxied.
    """
    j = Journey()
    if first:
        j.connected, j.accepted, j.secured = start - SECOND, start - SECOND + 2 * MS, start - SECOND + 10 * MS
    j.arrived, j.arrived_quality, j.woken = start, 1, start + 40 * US
    j.spent_loop, j.spent_read, j.spent_parse = 10 * US, 4 * US, 6 * US
    j.read, j.parsed, j.routed = start + 54 * US, start + 60 * US, start + 60 * US
    if leg:
        j.spent_pool, j.leg_sent = 10 * US, start + 70 * US
        j.leg_head = j.answered = j.leg_sent + process
        j.leg_end = j.finished = j.leg_head + MS
    else:
        j.started = start + 70 * US
        j.answered = j.finished = j.started + process
    j.spent_encode, j.spent_send = 3 * US, 7 * US
    j.encoded = j.finished + 3 * US
    j.sent = j.done = j.encoded + 7 * US
    j.bytes_in, j.bytes_out = 20, 1200
    return j


def exchange(
    conn: Connection | None = None,
    j: Journey | None = None,
    *,
    target: bytes = b"/a",
    status: int = 200,
    route: object = None,
    method: str = "GET",
    error: object = None,
    tag: bytes = b"",
    host: bytes = b"shop.example",
) -> Exchange:
    """A finished exchange; without a status no answer was given."""
    request = Request(method, "http", host, target, [], "1.1", 0)
    ex = Exchange(conn or connection(), 1, 0, request, j or journey())
    ex.response = Response(status, [], 12) if status else None
    ex.route, ex.error, ex.tag = route, error, tag
    return ex
