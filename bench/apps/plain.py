"""The least an ASGI and a WSGI application can be, so that what is measured is the server.

``/`` answers 12 bytes, ``/100b`` and ``/100k`` their sizes, ``/big/N`` streams N bytes in 64 KiB pieces; a POST is read
to its end and answered with the number of bytes that arrived.
"""

from typing import Any

HELLO = b"hello world\n"
BODIES = {"/": HELLO, "/100b": b"x" * 100, "/100k": b"x" * 102_400}
PIECE = bytes(65_536)


def head(length: int) -> dict[str, Any]:
    """The start message of a 200 answer with `length` bytes."""
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": fields}


HEADS = {path: head(len(body)) for path, body in BODIES.items()}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one scope; lifespan is acknowledged so that every server has started the same way."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    if scope["method"] == "POST":
        return await count(receive, send)
    if path.startswith("/big/"):
        return await big(int(path[5:]), send)
    await send(HEADS[path])
    await send({"type": "http.response.body", "body": BODIES[path]})


async def lifespan(receive: Any, send: Any) -> None:
    """Say yes to startup and shutdown."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def count(receive: Any, send: Any) -> None:
    """Read the body to its end, keep none of it, answer its length."""
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d\n" % total
    await send(head(len(body)))
    await send({"type": "http.response.body", "body": body})


async def big(left: int, send: Any) -> None:
    """Stream `left` zero bytes; `send` is where back-pressure has to hold."""
    await send(head(left))
    while left:
        piece = PIECE[:left]
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """The same 12 bytes over WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]
