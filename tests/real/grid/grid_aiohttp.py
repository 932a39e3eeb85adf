"""The grid's application in aiohttp, which has a server of its own: it stands behind our proxy. `python grid_aiohttp.py PORT`."""

import asyncio
import hashlib
import sys
from pathlib import Path

from aiohttp import web

seen = {"left": 0, "worked": 0, "pool": ""}


@web.middleware
async def reads_body(request, handler):
    if request.path == "/twice":
        request["read"] = len(await request.read())
    return await handler(request)


async def upload(request):
    part = await (await request.multipart()).next()
    data = await part.read()
    return web.json_response({"name": part.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


async def pieces(request, kind, each, pause=0.0):
    answer = web.StreamResponse(headers={"content-type": kind})
    await answer.prepare(request)
    try:
        for piece in each:
            await answer.write(piece)
            await asyncio.sleep(pause)
    finally:
        if pause:
            seen["left"] += 1
    return answer


def ticks():
    while True:
        yield b"tick\n"


async def work():
    seen["worked"] += 1


async def background(request):
    request["task"] = asyncio.ensure_future(work())
    return web.Response(text="later")


async def fails(request):
    raise ValueError("the reason")


async def cookies(request):
    answer = web.Response(text="two")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


async def ws(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


def says(value):
    async def handler(request):
        return web.json_response(value())

    return handler


async def plain(request):
    return web.Response(text="plain")


async def echo(request):
    return web.Response(body=await request.read())


async def large(request):
    return web.Response(body=b"x" * 5_000_000)


async def stream(request):
    return await pieces(request, "text/plain", (b"%d\n" % number for number in range(10)))


async def sse(request):
    return await pieces(request, "text/event-stream", (b"data: %d\n\n" % number for number in range(3)))


async def endless(request):
    return await pieces(request, "text/plain", ticks(), 0.01)


async def twice(request):
    return web.json_response({"middleware": request["read"], "handler": len(await request.read())})


async def opens(app):
    seen["pool"] = "open"


app = web.Application(middlewares=[reads_body], client_max_size=2 << 30)
app.on_startup.append(opens)
app.add_routes([
    web.get("/plain", plain), web.get("/json", says(lambda: {"answer": 42})), web.post("/echo", echo),
    web.post("/upload", upload), web.get("/stream", stream), web.get("/large", large), web.get("/sse", sse),
    web.get("/endless", endless), web.get("/left", says(lambda: seen["left"])), web.get("/background", background),
    web.get("/worked", says(lambda: seen["worked"])), web.post("/twice", twice), web.get("/raise", fails),
    web.get("/cookies", cookies), web.get("/state", says(lambda: {"pool": seen["pool"]})), web.get("/ws", ws),
    web.static("/static", Path(__file__).parent / "static"),
])  # fmt: skip

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
