"""What the matrix of HTTP/3 clients asks for beside h3back's: early hints with the request's priority, an event stream that waits
for somebody to go on.
"""

import asyncio

from h3back import app as back

waiting: list[asyncio.Event] = []


async def app(scope, receive, send):
    path = scope.get("path")
    if path == "/go":
        while not waiting:
            await asyncio.sleep(0.01)
        waiting.pop().set()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/sse":
        go = asyncio.Event()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 0\n\n", "more_body": True})
        waiting.append(go)
        await go.wait()
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})
    elif path == "/hints":
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        body = dict(scope["headers"]).get(b"priority", b"-")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})
    else:
        await back(scope, receive, send)
