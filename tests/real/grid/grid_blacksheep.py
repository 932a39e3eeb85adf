"""The grid's application in BlackSheep."""

import asyncio
import hashlib
from pathlib import Path

from blacksheep import (
    Application,
    Content,
    Cookie,
    Request,
    Response,
    StreamedContent,
    WebSocket,
    get,
    json,
    post,
    text,
    ws,
)
from blacksheep.server.sse import ServerSentEvent
from blacksheep.sessions.cookies import CookieSessionStore

app = Application()
app.use_sessions(CookieSessionStore("a secret that is long enough", session_cookie="session"))
app.serve_files(Path(__file__).parent / "static", root_path="static", extensions={".txt"})
seen = {"left": 0, "worked": 0, "pool": ""}


@app.on_start
async def opens(app):
    seen["pool"] = "open"


async def reads_body(request: Request, handler):
    if request.url.path == b"/twice":
        request.read_before = len(await request.read() or b"")
    return await handler(request)


app.middlewares.append(reads_body)


@get("/plain")
async def plain():
    return text("plain")


@get("/json")
async def as_json():
    return json({"answer": 42})


@post("/echo")
async def echo(request: Request):
    return Response(200, content=Content(b"application/octet-stream", await request.read() or b""))


@post("/upload")
async def upload(request: Request):
    [part] = await request.files("file")
    data = part.data if isinstance(part.data, bytes) else part.data.read()
    return json({"name": part.file_name.decode(), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


@get("/stream")
async def stream():
    async def pieces():
        for number in range(10):
            yield b"%d\n" % number

    return Response(200, content=StreamedContent(b"text/plain", pieces))


@get("/large")
async def large():
    return Response(200, content=Content(b"text/plain", b"x" * 5_000_000))


@get("/sse")
async def sse():
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n".encode()

    return Response(200, content=StreamedContent(b"text/event-stream", events))


@get("/endless")
async def endless():
    async def for_ever():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            seen["left"] += 1

    return Response(200, content=StreamedContent(b"text/plain", for_ever))


@get("/left")
async def left():
    return json(seen["left"])


@get("/worked")
async def worked():
    return json(seen["worked"])


@get("/background")
async def background():
    async def work():
        seen["worked"] += 1

    asyncio.get_running_loop().create_task(work())
    return text("later")


@post("/twice")
async def twice(request: Request):
    return json({"middleware": request.read_before, "handler": len(await request.read() or b"")})


@get("/raise")
async def fails():
    raise ValueError("the reason")


@get("/session")
async def visits(request: Request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return json({"visits": request.session["visits"]})


@get("/cookies")
async def cookies():
    answer = text("two")
    answer.set_cookie(Cookie("a", "1"))
    answer.set_cookie(Cookie("b", "2"))
    return answer


@get("/state")
async def state():
    return json({"pool": seen["pool"]})


@ws("/ws")
async def echo_ws(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


__all__ = ["ServerSentEvent", "app"]
