"""A chat room over WebSockets, bare ASGI: whoever is connected hears what anybody says.

    fairlead run app:app --dir examples/websocket          # then open http://127.0.0.1:8000 in two windows
    fairlead run examples/websocket/fairlead.toml     # the same with other sites' pages kept out

One process holds the room, so it runs with one worker.
"""

import asyncio

PAGE = b"""<!doctype html><title>Chat</title>
<form onsubmit="socket.send(line.value); line.value = ''; return false"><input id="line" autofocus></form><pre id="log"></pre>
<script>
const socket = new WebSocket(location.origin.replace("http", "ws") + "/chat", ["chat.v1"]);
socket.onmessage = (event) => { log.textContent += event.data + "\\n"; };
socket.onclose = (event) => { log.textContent += `closed: ${event.code} ${event.reason}\\n`; };
</script>"""
ROOM = set()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await page(send)
    elif scope["type"] == "websocket":
        await chat(scope, receive, send)
    elif scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": event["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})


async def page(send):
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})


async def chat(scope, receive, send):
    await receive()  # websocket.connect
    if "chat.v1" not in scope["subprotocols"]:
        await send({"type": "websocket.close"})  # before the accept: the answer is 403
        return
    await send({"type": "websocket.accept", "subprotocol": "chat.v1"})
    ROOM.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") is None:
                await send({"type": "websocket.close", "code": 1003, "reason": "only text here"})
                break
            await tell(f"{scope['client'][0]}: {event['text']}")
    finally:
        ROOM.discard(send)


async def tell(text):
    """Everybody hears it; who is slow delays this sender, who is gone nobody."""
    said = [send({"type": "websocket.send", "text": text}) for send in list(ROOM)]
    await asyncio.gather(*said, return_exceptions=True)
