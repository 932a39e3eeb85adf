"""What stands behind an HTTP/3 upstream: h3app's pages, a WebSocket that echoes, and early hints and trailers."""

from h3app import app as pages


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-version", scope["http_version"].encode())]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    elif scope["type"] == "http" and scope["path"] == "/trailers":
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"with trailers"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"17")]})
    else:
        await pages(scope, receive, send)
