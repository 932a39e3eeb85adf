"""The grid's application in Flask (WSGI)."""

import hashlib

from flask import Flask, Response, jsonify, request, session

app = Flask(__name__, static_folder="static", static_url_path="/static")
app.secret_key = "x"
seen = {"left": 0, "worked": 0}


@app.before_request
def reads_body():
    if request.path == "/twice":
        request.read = len(request.get_data())


@app.get("/plain")
def plain():
    return "plain"


@app.get("/json")
def as_json():
    return {"answer": 42}


@app.post("/echo")
def echo():
    return Response(request.get_data())


@app.post("/upload")
def upload():
    file = request.files["file"]
    data = file.read()
    return {"name": file.filename, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@app.get("/stream")
def stream():
    return Response(b"%d\n" % number for number in range(10))


@app.get("/large")
def large():
    return b"x" * 5_000_000


@app.get("/sse")
def sse():
    return Response((f"data: {number}\n\n" for number in range(3)), mimetype="text/event-stream")


@app.get("/endless")
def endless():
    def for_ever():
        try:
            while True:
                yield b"tick\n" * 1000
        finally:
            seen["left"] += 1

    return Response(for_ever())


@app.get("/left")
def left():
    return jsonify(seen["left"])


@app.get("/background")
def background():
    answer = Response("later")
    answer.call_on_close(lambda: seen.update(worked=seen["worked"] + 1))
    return answer


@app.get("/worked")
def worked():
    return jsonify(seen["worked"])


@app.post("/twice")
def twice():
    return {"middleware": request.read, "handler": len(request.get_data())}


@app.get("/raise")
def fails():
    raise ValueError("the reason")


@app.get("/session")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}


@app.get("/cookies")
def cookies():
    answer = Response("two")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer
