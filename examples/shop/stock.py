"""A second application, plain ASGI without a framework: the demo proxies to it, so that upstream steps can be seen."""

import asyncio
import json
import random
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """How many of everything are on the shelf."""
    if scope["type"] != "http":
        raise RuntimeError("only http")
    await asyncio.sleep(random.choice((0.0, 0.001, 0.02)))
    body = json.dumps({"service": "stock", "path": scope["path"], "shelf": random.randrange(100)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
