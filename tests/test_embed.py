"""fairlead.Server: inside a running loop, inside a thread, and as a pytest fixture."""

import asyncio
import json
import ssl
import urllib.request

import pytest

import fairlead
from fairlead.core.errors import FairleadError

pytest_plugins = ["fairlead.run.testing"]


async def app(scope, receive, send):
    """Says what it was asked; `/slow` waits to be let go."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            scope["state"]["words"] = ["started"]
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                words.append("stopped")
                return
    if scope["path"] == "/slow":
        gate.set()
        await release.wait()
    body = json.dumps({"path": scope["path"], "state": scope["state"]["words"], "scheme": scope["scheme"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


words: list[str] = []
gate = release = None


async def asked(port, path):
    """One request over a plain stream: (status line, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.split(b"\r\n")[0], body


def test_a_server_in_a_running_loop_serves_and_drains():
    global gate, release

    async def main():
        global gate, release
        gate, release = asyncio.Event(), asyncio.Event()
        words.clear()
        async with fairlead.Server(app, bind="127.0.0.1:0") as server:
            assert server.url == f"http://127.0.0.1:{server.port}"
            assert (await asked(server.port, "/one"))[1] == b'{"path": "/one", "state": ["started"], "scheme": "http"}'
            slow = asyncio.create_task(asked(server.port, "/slow"))
            await gate.wait()
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            release.set()
            assert (await slow)[0] == b"HTTP/1.1 200 OK"
            await stopping
            assert [one["target"] for one in server.requests()] == ["/slow", "/one"]
            with pytest.raises(OSError):
                await asked(server.port, "/late")
        assert words == ["stopped"]

    asyncio.run(main())


def test_a_server_in_a_thread_for_code_that_is_not_async():
    with fairlead.Server(app) as server, urllib.request.urlopen(server.url + "/two") as answer:
        assert json.load(answer)["path"] == "/two"


def test_the_fixture_serves_with_tls_that_its_ca_proves(fairlead_server, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = fairlead_server(app, tls="dev")
    trust = ssl.create_default_context(cafile=server.ca)
    with urllib.request.urlopen(server.url + "/three", context=trust) as answer:
        assert json.load(answer) == {"path": "/three", "state": ["started"], "scheme": "https"}
    other = fairlead_server(app)
    assert other.port != server.port


def test_a_configuration_file_can_be_embedded(tmp_path):
    file = tmp_path / "fairlead.toml"
    file.write_text('[[listener]]\nbind = "127.0.0.1:0"\n[[route]]\nrespond = "embedded"\n')
    with fairlead.Server(str(file)) as server, urllib.request.urlopen(server.url) as answer:
        assert answer.read() == b"embedded"


async def broken(scope, receive, send):
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    "target, options, said",
    [
        ("nowhere.at:all", {}, "nowhere"),
        (app, {"bind": "not an address"}, "not an address"),
        (app, {"colour": "red"}, "colour"),
        ("/does/not/exist.toml", {}, "cannot be read"),
    ],
)
def test_what_cannot_start_says_why(target, options, said):
    with pytest.raises(FairleadError, match=said), fairlead.Server(target, **options):
        pass


def test_a_port_that_is_taken_says_so_and_leaves_nothing_behind():
    with fairlead.Server(app) as server:
        with pytest.raises(FairleadError, match=r"in use|taken"), fairlead.Server(app, bind=f"127.0.0.1:{server.port}"):
            pass
        with urllib.request.urlopen(server.url + "/still") as answer:
            assert answer.status == 200
