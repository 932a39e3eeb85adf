"""The grid's application in Starlette."""

import asyncio
import contextlib
import hashlib
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

seen = {"left": 0, "worked": 0}


class ReadsBody(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        if request.url.path == "/twice":
            request.state.read = len(await request.body())
        return await call_next(request)


async def plain(request):
    return PlainTextResponse("plain")


async def as_json(request):
    return JSONResponse({"answer": 42})


async def echo(request):
    return Response(await request.body())


async def upload(request):
    async with request.form() as form:
        data = await form["file"].read()
        return JSONResponse({"name": form["file"].filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


async def pieces():
    for number in range(10):
        yield b"%d\n" % number


async def stream(request):
    return StreamingResponse(pieces())


async def large(request):
    return Response(b"x" * 5_000_000)


async def events():
    for number in range(3):
        yield f"data: {number}\n\n"


async def sse(request):
    return StreamingResponse(events(), media_type="text/event-stream")


async def for_ever():
    try:
        while True:
            yield b"tick\n"
            await asyncio.sleep(0.01)
    finally:
        seen["left"] += 1


async def endless(request):
    return StreamingResponse(for_ever())


async def work():
    seen["worked"] += 1


async def background(request):
    return PlainTextResponse("later", background=BackgroundTask(work))


async def twice(request):
    return JSONResponse({"middleware": request.state.read, "handler": len(await request.body())})


async def fails(request):
    raise ValueError("the reason")


async def session(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse(request.session)


async def cookies(request):
    answer = PlainTextResponse("two")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


async def state(request):
    return JSONResponse({"pool": request.state.pool})


async def ws(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"pool": "open"}


routes = [
    *(Route("/" + path, call) for path, call in {
        "plain": plain, "json": as_json, "stream": stream, "large": large, "sse": sse, "endless": endless,
        "background": background, "raise": fails, "session": session, "cookies": cookies, "state": state,
    }.items()),
    Route("/echo", echo, methods=["POST"]), Route("/upload", upload, methods=["POST"]),
    Route("/twice", twice, methods=["POST"]),
    Route("/left", lambda request: JSONResponse(seen["left"])), Route("/worked", lambda request: JSONResponse(seen["worked"])),
    Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")), WebSocketRoute("/ws", ws),
]  # fmt: skip
app = Starlette(routes=routes, middleware=[Middleware(ReadsBody), Middleware(SessionMiddleware, secret_key="x")], lifespan=lifespan)
