"""Filters: what stands between the table and a route's handler. One file per kind; a route has a flat tuple of them.

A filter is any object with one or both of these, called by `serve.route.Router` in the order they are written:

    before(exchange) -> None                 go on (it may have changed the request, or put a stage on the exchange)
                        Response             the answer, without a body
                        (Response, bytes)    the answer with its body
                        an awaitable of one of these, when it has to wait; it may raise a FairleadError, which is answered
    after(exchange, response)                just before the head of whatever answer there is leaves: change it in place

Rules
1. A filter holds no state of one request; what it must remember goes on the exchange. So one object serves all.
2. Only a filter that needs the body puts a stage there (`core.exchange.Stage`, `Intake`): nobody else pays for it.
3. What a client proved about itself goes to `exchange.principal`; what a filter counts in flight it counts down in
   `over(exchange)`, for which it adds itself to `exchange.ends`.
4. A refusal says what was wrong and what would be right, but never a secret and never which half of a password was wrong.
"""

from __future__ import annotations

from fairlead.core.message import Response


def told(status, text, *headers):
    """(Response, body): a one-line answer in plain text, with more header fields."""
    body = f"{status} {text}\n".encode()
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *headers]
    return Response(status, fields, len(body)), body


def address_of(exchange):
    """The client's address as text, as trusted peers tell it; "" on a unix socket."""
    client = exchange.client if exchange.client is not None else exchange.conn.peer
    return client[0] if type(client) is tuple else ""


def set_field(headers, name, value):
    """Put one field in the place of all of its name."""
    headers[:] = [field for field in headers if field[0] != name]
    headers.append((name, value))


def listed(headers, name):
    """The members of a comma-separated field, lower case, over all its lines."""
    return [part.strip().lower() for key, value in headers if key == name for part in value.split(b",") if part.strip()]


def vary(response, name):
    """Say that the answer depends on a request field (RFC 9110 section 12.5.5)."""
    there = listed(response.headers, b"vary")
    if b"*" not in there and name not in there:
        response.headers.append((b"vary", name))
