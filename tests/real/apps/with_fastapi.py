"""The same as with_starlette, in FastAPI's own words."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request, UploadFile
from fastapi.responses import PlainTextResponse, StreamingResponse

SEEN = {"background": 0, "left": 0}


@asynccontextmanager
async def lifespan(app):
    yield {"pool": "open"}
    print("lifespan is over", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/state")
def state(request: Request):  # not async: FastAPI runs it in a thread
    return {"pool": request.state.pool, "scheme": request.url.scheme, "host": request.client.host}


@app.post("/echo")
async def echo(request: Request):
    body = await request.body()
    digest = hashlib.sha256(body).hexdigest()
    return {"size": len(body), "sha256": digest, "type": request.headers.get("content-type")}


@app.post("/upload")
async def upload(file: UploadFile):
    return {"name": file.filename, "size": len(await file.read())}


@app.get("/stream")
async def stream(n: int):
    def parts():
        for number in range(n):
            yield b"%08d\n" % number * 100

    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/raise")
async def failing():
    raise ValueError("the reason stays in the log")


@app.get("/late")
async def failing_late():
    async def parts():
        yield b"first"
        await asyncio.sleep(0)
        raise ValueError("in the middle")

    return StreamingResponse(parts())


@app.post("/background", status_code=202)
async def background(tasks: BackgroundTasks):
    def later():
        SEEN["background"] += 1

    tasks.add_task(later)
    return "accepted"


@app.get("/endless")
async def endless():
    async def parts():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            SEEN["left"] += 1

    return StreamingResponse(parts())


@app.get("/seen")
async def seen():
    return SEEN


@app.get("/timed")
async def timed(request: Request):
    with request.scope["extensions"]["fairlead.journey"].step("sql"):
        await asyncio.sleep(0)
    return PlainTextResponse("timed")
