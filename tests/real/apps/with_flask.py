"""Flask (WSGI), unchanged: bodies, uploads, streams, errors, teardown, sessions."""

import hashlib
import threading
import time

from flask import Flask, Response, jsonify, request, send_file, session

app = Flask(__name__)
app.secret_key = "only for tests"
SEEN = {"teardown": 0, "closed": 0}


@app.teardown_request
def teardown(error):
    SEEN["teardown"] += 1


@app.get("/")
def state():
    return jsonify(scheme=request.scheme, host=request.remote_addr, root=request.script_root, path=request.path)


@app.post("/echo")
def echo():
    data = request.get_data()
    return jsonify(size=len(data), sha256=hashlib.sha256(data).hexdigest(), type=request.content_type)


@app.post("/upload")
def upload():
    file = request.files["file"]
    return jsonify(name=file.filename, size=len(file.read()))


@app.get("/stream")
def stream():
    most = int(request.args["n"])

    def parts():
        try:
            for number in range(most):
                yield b"%08d\n" % number * 100
        finally:
            SEEN["closed"] += 1

    return Response(parts(), mimetype="text/plain")


@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/plain", conditional=True)


@app.get("/fails")
def fails():
    raise ValueError("the reason stays in the log")


@app.get("/fails-late")
def fails_late():
    def parts():
        yield b"first"
        raise ValueError("in the middle")

    return Response(parts())


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return jsonify(count=session["count"])


@app.get("/sleep")
def sleep():
    time.sleep(float(request.args["s"]))
    return threading.current_thread().name


@app.get("/seen")
def seen():
    return jsonify(SEEN)
