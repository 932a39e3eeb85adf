"""The grid's application in Sanic, as ASGI."""

import asyncio
import hashlib
from pathlib import Path

from sanic import Sanic
from sanic.response import empty, file, json, raw, text

Sanic.test_mode = True
app = Sanic("grid", configure_logging=False)
app.config.REQUEST_MAX_SIZE = 2 << 30
seen = {"left": 0, "worked": 0, "pool": ""}
HERE = Path(__file__).parent


@app.before_server_start
async def opens(app):
    seen["pool"] = "open"


@app.on_request
async def reads_body(request):
    if request.path == "/twice":
        await request.receive_body()
        request.ctx.read = len(request.body)


@app.get("/plain")
async def plain(request):
    return text("plain")


@app.get("/json")
async def as_json(request):
    return json({"answer": 42})


@app.post("/echo")
async def echo(request):
    return raw(request.body)


@app.post("/upload")
async def upload(request):
    given = request.files.get("file")
    return json({"name": given.name, "size": len(given.body), "sha256": hashlib.sha256(given.body).hexdigest()})


@app.get("/stream")
async def stream(request):
    answer = await request.respond(content_type="text/plain")
    for number in range(10):
        await answer.send(b"%d\n" % number)


@app.get("/large")
async def large(request):
    return raw(b"x" * 5_000_000)


@app.get("/sse")
async def sse(request):
    answer = await request.respond(content_type="text/event-stream")
    for number in range(3):
        await answer.send(f"data: {number}\n\n")


@app.get("/endless")
async def endless(request):
    try:
        answer = await request.respond()
        while True:
            await answer.send(b"tick\n")
            await asyncio.sleep(0.01)
    finally:
        seen["left"] += 1


@app.get("/left")
async def left(request):
    return json(seen["left"])


async def work():
    seen["worked"] += 1


@app.get("/background")
async def background(request):
    request.app.add_task(work())
    return text("later")


@app.get("/worked")
async def worked(request):
    return json(seen["worked"])


@app.post("/twice")
async def twice(request):
    return json({"middleware": request.ctx.read, "handler": len(request.body)})


@app.get("/raise")
async def fails(request):
    raise ValueError("the reason")


@app.get("/cookies")
async def cookies(request):
    answer = text("two")
    answer.add_cookie("a", "1", secure=False)
    answer.add_cookie("b", "2", secure=False)
    return answer


@app.get("/static/file.txt")
async def static(request):
    return await file(HERE / "static" / "file.txt")


@app.get("/state")
async def state(request):
    return json({"pool": seen["pool"]})


@app.websocket("/ws")
async def ws(request, socket):
    while True:
        await socket.send(await socket.recv())


@app.get("/empty")
async def nothing(request):
    return empty()
