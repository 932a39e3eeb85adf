"""The call budget: Python-level calls of ours for one keep-alive GET. Counts do not flake; lower them only on purpose.

Compiled code makes no Python-level calls, so this looks at the interpreted build only.
"""

import asyncio
import socket
import sys

import pytest

from fairlead.core.handler import Service
from fairlead.net.listen import Listener
from fairlead.net.poll import Poller
from fairlead.net.timers import __file__ as source
from fairlead.serve.app import App
from fairlead.serve.proxy import Options, Proxy
from fairlead.serve.respond import Respond
from fairlead.serve.route import Route, Router
from fairlead.serve.table import Table
from fairlead.serve.upstream import Server, Settings, Upstream
from fairlead.wire.h1 import H1

pytestmark = pytest.mark.skipif(not source.endswith(".py"), reason="compiled code makes no Python-level calls")

REQUEST = b"GET /a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
FIXED, ASGI, PROXIED = 96, 119, 292


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def listen(poller, handler):
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(Router(Table([Route(handler)])), name="t", clock=poller)
    listener = Listener(poller, sock, service, lambda conn, alpn: H1(conn, service.limits, False, service.common))
    listener.start()
    return listener


async def calls_of(listener):
    """Our Python calls for the third request of a connection: by then everything is warm."""
    reader, writer = await asyncio.open_connection(*listener.sock.getsockname())
    counted = []

    def count(frame, event, arg):
        if event == "call" and "/fairlead/" in frame.f_code.co_filename:
            counted.append(frame.f_code.co_qualname)

    for number in range(3):
        if number == 2:
            sys.setprofile(count)
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(2)
    sys.setprofile(None)
    writer.close()
    return counted


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_fixed_answer():
    async def scenario():
        poller = Poller(asyncio.get_running_loop())
        listener = listen(poller, Respond(200, [], b"ok"))
        counted = await calls_of(listener)
        await close(poller, listener)
        return counted

    spent = len(run(scenario))
    assert spent <= FIXED


def test_an_asgi_app():
    async def scenario():
        loop = asyncio.get_running_loop()
        poller = Poller(loop)
        listener = listen(poller, App(app, loop))
        counted = await calls_of(listener)
        await close(poller, listener)
        return counted

    spent = len(run(scenario))
    assert spent <= ASGI


def test_a_proxied_answer():
    async def scenario():
        poller = Poller(asyncio.get_running_loop())
        origin = listen(poller, Respond(200, [], b"ok"))
        servers = [Server(origin.sock.getsockname())]
        upstream = Upstream(poller, "o", servers, Settings(), lambda conn: H1(conn, conn.service.limits, True))
        upstream.start()
        listener = listen(poller, Proxy(upstream, Options()))
        counted = await calls_of(listener)
        upstream.retire()
        await close(poller, listener, origin)
        return counted

    spent = len(run(scenario))
    assert spent <= PROXIED + FIXED


async def close(poller, *listeners):
    for listener in listeners:
        await listener.drain(0)
        listener.sock.close()
    poller.close()
