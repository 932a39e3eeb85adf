"""The grid's application in Quart."""

import asyncio
import hashlib

from quart import Quart, Response, jsonify, request, session, websocket

app = Quart(__name__, static_folder="static", static_url_path="/static")
app.secret_key = "x"
app.config["MAX_CONTENT_LENGTH"] = None
seen = {"left": 0, "worked": 0, "pool": ""}


@app.before_serving
async def opens():
    seen["pool"] = "open"


@app.before_request
async def reads_body():
    if request.path == "/twice":
        request.read = len(await request.get_data())


@app.get("/plain")
async def plain():
    return "plain"


@app.get("/json")
async def as_json():
    return {"answer": 42}


@app.post("/echo")
async def echo():
    return await request.get_data()


@app.post("/upload")
async def upload():
    file = (await request.files)["file"]
    data = file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
async def stream():
    async def pieces():
        for number in range(10):
            yield b"%d\n" % number

    return pieces(), 200


@app.get("/large")
async def large():
    return b"x" * 5_000_000


@app.get("/sse")
async def sse():
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n".encode()

    return Response(events(), mimetype="text/event-stream")


@app.get("/endless")
async def endless():
    async def for_ever():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            seen["left"] += 1

    answer = Response(for_ever())
    answer.timeout = None
    return answer


@app.get("/left")
async def left():
    return jsonify(seen["left"])


async def work():
    seen["worked"] += 1


@app.get("/background")
async def background():
    app.add_background_task(work)
    return "later"


@app.get("/worked")
async def worked():
    return jsonify(seen["worked"])


@app.post("/twice")
async def twice():
    return {"middleware": request.read, "handler": len(await request.get_data())}


@app.get("/raise")
async def fails():
    raise ValueError("the reason")


@app.get("/session")
async def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}


@app.get("/cookies")
async def cookies():
    answer = Response("two")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/state")
async def state():
    return {"pool": seen["pool"]}


@app.websocket("/ws")
async def ws():
    while True:
        await websocket.send(await websocket.receive())
