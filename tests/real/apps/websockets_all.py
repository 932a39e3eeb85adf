"""One chat-like WebSocket in Starlette, FastAPI, Django Channels and bare ASGI, by the path's first segment.

Each echoes text and bytes, says who the client is on "who", closes with 4001 on "close", raises on "raise", sends 2,000
messages on "flood", and refuses visitors of /…/deny with a 403 or an answer of its own.
"""

import os

from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.urls import path
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute

if not settings.configured:
    settings.configure(SECRET_KEY="only for tests", ALLOWED_HOSTS=["*"])
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


class Chat(WebSocketEndpoint):
    async def on_connect(self, websocket):
        if websocket.url.path.endswith("/deny"):
            await websocket.send_denial_response(PlainTextResponse("members only", 401))
        else:
            offered = websocket.scope["subprotocols"]
            await websocket.accept(subprotocol=offered[-1] if offered else None, headers=[(b"x-framework", b"starlette")])

    async def on_receive(self, websocket, data):
        if "bytes" in data and data["bytes"] is not None:
            await websocket.send_bytes(data["bytes"])
        elif data["text"] == "who":
            await websocket.send_text(websocket.client.host)
        elif data["text"] == "close":
            await websocket.close(4001, "as asked")
        elif data["text"] == "raise":
            raise ValueError("as asked")
        elif data["text"] == "flood":
            for number in range(2000):
                await websocket.send_text(f"{number} " + "x" * 1000)
        else:
            await websocket.send_text(data["text"])

    async def decode(self, websocket, message):
        return message

    async def on_disconnect(self, websocket, close_code):
        print(f"starlette: {close_code}", flush=True)


starlette = Starlette(routes=[WebSocketRoute("/starlette/{rest:path}", Chat)])

fastapi = FastAPI()


async def member(websocket: WebSocket):
    if websocket.url.path.endswith("/deny"):
        raise WebSocketException(1008, "members only")
    return websocket.client.host


@fastapi.websocket("/fastapi/{rest:path}")
async def chat(websocket: WebSocket, rest: str, host: str = Depends(member)):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=offered[-1] if offered else None, headers=[(b"x-framework", b"fastapi")])
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            text = message.get("text")
            if text is None:
                await websocket.send_bytes(message["bytes"])
            elif text == "who":
                await websocket.send_text(host)
            elif text == "close":
                await websocket.close(4001, "as asked")
                return
            elif text == "raise":
                raise ValueError("as asked")
            elif text == "flood":
                for number in range(2000):
                    await websocket.send_text(f"{number} " + "x" * 1000)
            else:
                await websocket.send_text(text)
    except WebSocketDisconnect as error:
        print(f"fastapi: {error.code}", flush=True)


class Channel(AsyncWebsocketConsumer):
    async def connect(self):
        if self.scope["path"].endswith("/deny"):
            await self.close()
        else:
            offered = self.scope["subprotocols"]
            await self.accept(offered[-1] if offered else None, headers=[(b"x-framework", b"channels")])

    async def receive(self, text_data=None, bytes_data=None):
        if text_data is None:
            await self.send(bytes_data=bytes_data)
        elif text_data == "who":
            await self.send(self.scope["client"][0])
        elif text_data == "close":
            await self.close(4001, "as asked")
        elif text_data == "raise":
            raise ValueError("as asked")
        elif text_data == "flood":
            for number in range(2000):
                await self.send(f"{number} " + "x" * 1000)
        else:
            await self.send(text_data)

    async def disconnect(self, code):
        print(f"channels: {code}", flush=True)


class Blocking(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(f"from a thread: {text_data}")


channels = URLRouter([path("channels/sync", Blocking.as_asgi()), path("channels/<path:rest>", Channel.as_asgi())])


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await starlette(scope, receive, send)
    name = scope["path"].split("/")[1]
    return await {"starlette": starlette, "fastapi": fastapi, "channels": channels}[name](scope, receive, send)
