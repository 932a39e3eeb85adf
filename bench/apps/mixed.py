"""One answer at once, one that blocks its worker for 50 ms; both say which process and thread answered."""

import os
import threading
import time


async def app(scope, receive, send):
    """/ and /block."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/block":
        time.sleep(0.05)
    body = b"%d %d" % (os.getpid(), threading.get_native_id())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
