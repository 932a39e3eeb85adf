"""The grid's application in FastAPI."""

import asyncio
import contextlib
import hashlib
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI, Request, Response, UploadFile, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware

seen = {"left": 0, "worked": 0}


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"pool": "open"}


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key="x")
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))


@app.middleware("http")
async def reads_body(request: Request, call_next):
    if request.url.path == "/twice":
        request.state.read = len(await request.body())
    return await call_next(request)


@app.get("/plain", response_class=PlainTextResponse)
async def plain():
    return "plain"


@app.get("/json")
async def as_json():
    return {"answer": 42}


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body())


@app.post("/upload")
async def upload(file: UploadFile):
    data = await file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
async def stream():
    async def pieces():
        for number in range(10):
            yield b"%d\n" % number

    return StreamingResponse(pieces())


@app.get("/large")
def large():  # a sync handler: FastAPI gives it to a thread
    return Response(b"x" * 5_000_000)


@app.get("/sse")
async def sse():
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/endless")
async def endless():
    async def for_ever():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            seen["left"] += 1

    return StreamingResponse(for_ever())


@app.get("/left")
async def left():
    return seen["left"]


@app.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks):
    tasks.add_task(lambda: seen.update(worked=seen["worked"] + 1))
    return "later"


@app.get("/worked")
async def worked():
    return seen["worked"]


@app.post("/twice")
async def twice(request: Request):
    return {"middleware": request.state.read, "handler": len(await request.body())}


@app.get("/raise")
async def fails():
    raise ValueError("the reason")


@app.get("/session")
async def session(request: Request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return request.session


@app.get("/cookies")
async def cookies(response: Response):
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return "two"


@app.get("/state")
async def state(request: Request):
    return {"pool": request.state.pool}


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
