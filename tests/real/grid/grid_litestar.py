"""The grid's application in Litestar."""

import asyncio
import contextlib
import hashlib
from pathlib import Path

from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie, UploadFile
from litestar.enums import RequestEncodingType
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import Body
from litestar.response import ServerSentEvent, Stream
from litestar.static_files import create_static_files_router

seen = {"left": 0, "worked": 0}


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.pool = "open"
    yield


@get("/plain", media_type="text/plain")
async def plain() -> str:
    return "plain"


@get("/json")
async def as_json() -> dict:
    return {"answer": 42}


@post("/echo", status_code=200)
async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@post("/upload", status_code=200)
async def upload(data: UploadFile = Body(media_type=RequestEncodingType.MULTI_PART)) -> dict:  # noqa: B008
    content = await data.read()
    return {"name": data.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@get("/stream")
async def stream() -> Stream:
    async def pieces():
        for number in range(10):
            yield b"%d\n" % number

    return Stream(pieces())


@get("/large", media_type="text/plain")
async def large() -> bytes:
    return b"x" * 5_000_000


@get("/sse")
async def sse() -> ServerSentEvent:
    async def events():
        for number in range(3):
            yield str(number)

    return ServerSentEvent(events())


@get("/endless")
async def endless() -> Stream:
    async def for_ever():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            seen["left"] += 1

    return Stream(for_ever())


@get("/left")
async def left() -> int:
    return seen["left"]


async def work() -> None:
    seen["worked"] += 1


@get("/background", media_type="text/plain")
async def background() -> Response[str]:
    return Response("later", background=BackgroundTask(work))


@get("/worked")
async def worked() -> int:
    return seen["worked"]


async def reads_body(request: Request) -> None:
    if request.url.path == "/twice":
        request.state.read = len(await request.body())


@post("/twice", status_code=200)
async def twice(request: Request) -> dict:
    return {"middleware": request.state.read, "handler": len(await request.body())}


@get("/raise")
async def fails() -> str:
    raise ValueError("the reason")


@get("/session")
async def session(request: Request) -> dict:
    visits = request.session.get("visits", 0) + 1
    request.set_session({"visits": visits})
    return {"visits": visits}


@get("/cookies", media_type="text/plain")
async def cookies() -> Response[str]:
    return Response("two", cookies=[Cookie(key="a", value="1"), Cookie(key="b", value="2")])


@get("/state")
async def state(request: Request) -> dict:
    return {"pool": request.app.state.pool}


@websocket("/ws")
async def ws(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


app = Litestar(
    [plain, as_json, echo, upload, stream, large, sse, endless, left, background, worked, twice, fails, session, cookies,
     state, ws, create_static_files_router("/static", [Path(__file__).parent / "static"])],
    lifespan=[lifespan],
    before_request=reads_body,
    request_max_body_size=None,
    middleware=[CookieBackendConfig(secret=bytes(16)).middleware],
)  # fmt: skip
