"""A Starlette application with the paths that test_frameworks asks for."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

SEEN = {"background": 0, "left": 0, "shutdown": 0}


@asynccontextmanager
async def lifespan(app):
    yield {"pool": "open"}
    print("lifespan is over", flush=True)


async def state(request):
    return JSONResponse({"pool": request.state.pool, "scheme": request.url.scheme, "host": request.client.host})


async def echo(request):
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"size": size, "sha256": digest.hexdigest(), "type": request.headers.get("content-type")})


async def upload(request):
    async with request.form() as form:
        data = await form["file"].read()
        return JSONResponse({"name": form["file"].filename, "size": len(data)})


async def stream(request):
    async def parts():
        for number in range(int(request.query_params["n"])):
            yield b"%08d\n" % number * 100

    return StreamingResponse(parts(), media_type="text/plain")


async def failing(request):
    raise ValueError("the reason stays in the log")


async def failing_late(request):
    async def parts():
        yield b"first"
        await asyncio.sleep(0)
        raise ValueError("in the middle")

    return StreamingResponse(parts(), headers={"content-length": "100"})


async def background(request):
    async def later():
        SEEN["background"] += 1

    return PlainTextResponse("accepted", 202, background=BackgroundTask(later))


async def endless(request):
    async def parts():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            SEEN["left"] += 1

    return StreamingResponse(parts())


async def seen(request):
    return JSONResponse(SEEN)


async def timed(request):
    with request.scope["extensions"]["fairlead.journey"].step("sql"):
        await asyncio.sleep(0)
    return PlainTextResponse("timed")


PATHS = {
    "/state": state, "/echo": echo, "/upload": upload, "/stream": stream, "/raise": failing, "/late": failing_late,
    "/background": background, "/endless": endless, "/seen": seen, "/timed": timed,
}  # fmt: skip
app = Starlette(routes=[Route(path, view, methods=["GET", "POST"]) for path, view in PATHS.items()], lifespan=lifespan)
