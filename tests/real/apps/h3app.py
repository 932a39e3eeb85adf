"""The application that tests of HTTP/3 serve."""

import asyncio
import hashlib
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, start = scope["path"], {"type": "http.response.start", "status": 200, "headers": []}
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
        if path == "/lazy":
            await asyncio.sleep(0.01)
    if path == "/page":
        start["headers"] = [(b"content-type", b"text/html")]
    if path.startswith("/quiet/"):
        await asyncio.sleep(float(path[7:]))
    await send(start)
    if path.startswith("/large/"):
        left = int(path[7:])
        while left:
            part = min(left, 65536)
            left -= part
            await send({"type": "http.response.body", "body": b"x" * part, "more_body": True})
        body = b""
    elif path == "/events":
        for number in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.02)
        body = b""
    elif path.startswith("/ticks/"):
        for number in range(int(path[7:])):
            await send({"type": "http.response.body", "body": b"%d " % number, "more_body": True})
            await asyncio.sleep(0.05)
        body = b""
    elif path == "/page":
        body = b"<p></p><script>fetch('/who').then(r => r.text()).then(t => document.querySelector('p').textContent = t)</script>"
    elif path.startswith("/quiet/"):
        body = b"at last"
    elif path in ("/digest", "/lazy"):
        body = f"{size} {digest.hexdigest()}".encode()
    else:
        fields = dict(scope["headers"])
        early = fields.get(b"early-data", b"-").decode()
        body = f"http/{scope['http_version']} {scope['method']} pid {os.getpid()} early {early}".encode()
    await send({"type": "http.response.body", "body": body})
