"""UDP through HTTP (CONNECT-UDP, RFC 9298) as an ASGI application: datagrams of a request become UDP packets to one host, and back.
Over HTTP/3, HTTP/2 and HTTP/1.1 alike.

    [[route]]
    path = "/.well-known/masque/udp/*"
    app = "app:app"

A client asks for `/.well-known/masque/udp/HOST/PORT/` by an extended CONNECT with `:protocol = connect-udp`, or with HTTP/1.1 by
`Upgrade: connect-udp`. Only the hosts in ALLOWED are reached: an open relay sends anybody's packets to anybody.
"""

import asyncio
import os
from urllib.parse import unquote

ALLOWED = set(os.environ.get("UDP_ALLOWED", "127.0.0.1").split(","))
UDP_PAYLOAD = b"\0"  # context id 0 (RFC 9298 section 4)


class Relay(asyncio.DatagramProtocol):
    def __init__(self, datagrams):
        self.datagrams = datagrams

    def datagram_received(self, data, addr):
        self.datagrams.send(UDP_PAYLOAD + data)


async def refuse(send, status):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    datagrams = scope["extensions"].get("fairlead.datagram")
    parts = scope["path"].strip("/").split("/")
    if datagrams is None or datagrams.protocol != "connect-udp" or len(parts) != 5:
        await refuse(send, 501)
        return
    host, port = unquote(parts[3]), parts[4]
    if host not in ALLOWED or not port.isdigit() or not 0 < int(port) < 65536:
        await refuse(send, 403)
        return
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Relay(datagrams), remote_addr=(host, int(port)))

    async def forward():
        while True:
            data = await datagrams.receive()
            if data[:1] == UDP_PAYLOAD:  # other contexts are not ours, and may be dropped
                transport.sendto(data[1:])

    task = asyncio.create_task(forward())
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"capsule-protocol", b"?1")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        while True:  # capsules on the stream itself: none that we need (RFC 9297 section 3.2: unknown ones are skipped)
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        await send({"type": "http.response.body", "body": b""})
    finally:
        task.cancel()
        transport.close()
