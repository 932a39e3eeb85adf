"""An ASGI application without a framework: what FastAPI and the others do underneath, in thirty lines.

    fairlead run hello:app --dir examples/asgi

    curl -i http://127.0.0.1:8000/            one answer; look at its Server-Timing
    curl -N http://127.0.0.1:8000/count       a stream; stop curl and read the log
    curl -T FILE http://127.0.0.1:8000/size   a body of any size, in constant memory
"""

import asyncio


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["path"] == "/count":
        await count(send)
    elif scope["path"] == "/size":
        await answer(send, f"{await size(receive)} bytes\n")
    else:
        with scope["extensions"]["fairlead.journey"].step("greeting"):
            greeting = scope["state"]["greeting"]
        await answer(send, f"{greeting} from {scope['path']}\n")


async def lifespan(scope, receive, send):
    await receive()  # lifespan.startup
    scope["state"]["greeting"] = "Hello"  # every request gets a copy of this dict
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, text):
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def size(receive):
    total, more = 0, True
    while more:
        message = await receive()  # bytes are asked of the client only as fast as this loop takes them
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    return total


async def count(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    number = 0
    try:
        while True:
            number += 1
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(0.5)
    except OSError:  # the client is gone
        print(f"the client left after {number}", flush=True)
