"""What the real tests of uploads serve: functions, a job and an application that are given finished files."""

import hashlib
import json
import os

import fairlead


def before(upload):
    if upload.filename.endswith(".exe"):
        raise fairlead.Refused("no programs here", status=415)


def done(upload):
    return {"name": upload.filename, "size": os.path.getsize(upload.path), "pid": os.getpid()}


@fairlead.job(retries=0)
async def size(upload):
    return {"size": os.path.getsize(upload["path"]), "name": upload.get("filename", "")}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    told = hashlib.sha256()
    while True:
        message = await receive()
        told.update(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    said = {"path": scope["path"], "method": scope["method"], "sha": told.hexdigest(), "type": headers.get("content-type"),
            "length": headers.get("content-length"), "auth": headers.get("authorization")}  # fmt: skip
    body = json.dumps(said).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
