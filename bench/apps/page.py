"""/bytes/N answers N bytes that do not compress, in pieces of 64 KiB."""

import random

BLOCK = random.Random(1).randbytes(1 << 16)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size = int(scope["path"].rpartition("/")[2] or 0)
    fields = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    while size > len(BLOCK):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        size -= len(BLOCK)
    await send({"type": "http.response.body", "body": BLOCK[:size]})
