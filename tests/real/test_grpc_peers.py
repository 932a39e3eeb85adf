"""gRPC with programs that we did not write: grpcio's clients, @grpc/grpc-js, grpclib, Chromium, nginx in front, connectrpc behind.

The server is examples/todo by `fairlead run`, in three patterns. gRPC's interop client is run by scripts/interop-grpc.
"""
# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from peers import Real
from processes import Process, eventually, program, unavailable

grpc = pytest.importorskip("grpc")
ROOT = Path(__file__).resolve().parents[2]
TODO = ROOT / "examples" / "todo"
NODE = ROOT / ".cache" / "node"
sys.path.insert(0, str(TODO))

import todo_pb2 as pb
import todo_pb2_grpc as rpc


def started(peers: Real, pattern: str) -> Process:
    """The example's own configuration on a free port."""
    text = (TODO / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@")
    text = text.replace('"single"', f'"{pattern}"')
    home = peers.home()
    shutil.copytree(TODO, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "node"))
    return peers.fairlead(config=text, home=home)


@pytest.fixture(scope="module", params=["single", "dispatch", "reuseport"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    with Real() as peers:
        yield started(peers, request.param)


@pytest.fixture(scope="module")
def plain() -> Iterator[Process]:
    with Real() as peers:
        yield started(peers, "single")


def client(server: Process, *argv: str | Path, env: dict[str, str] | None = None) -> list[str]:
    """What a client of the example says."""
    done = subprocess.run([*argv, f"127.0.0.1:{server.port}"], capture_output=True, text=True, timeout=60, cwd=TODO,
                          env={**os.environ, **(env or {})})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_by_grpcio(server: Process) -> None:
    said = client(server, sys.executable, "-P", TODO / "client.py", env={"PYTHONPATH": str(TODO)})
    assert said[0].startswith("made ") and "uploaded 2" in said and "heard ahoy" in said and "heard is anybody there?" in said
    assert said[-1] == "refused INVALID_ARGUMENT an item needs a text"


def test_the_blocking_client_of_grpcio(server: Process) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        todo = rpc.TodoStub(channel)
        before = len(todo.ReadTodos(pb.Nothing(), timeout=20).items)
        assert todo.UploadTodos(iter([pb.Item(text=f"{n}") for n in range(5000)]), timeout=60).count == 5000
        found = [item.text for item in todo.ReadTodosStream(pb.Nothing(), timeout=60)][before:]
        assert found == [f"{n}" for n in range(5000)]
        assert todo.CreateTodo(pb.Item(text="x" * 3_000_000), timeout=60).text == "x" * 3_000_000


def test_reflection_from_the_configuration(plain: Process) -> None:
    pytest.importorskip("grpc_reflection")
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
        assert "todo.v1.Todo" in set(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_the_admin_counts_calls_by_method(plain: Process) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
        rpc.TodoStub(channel).ReadTodos(pb.Nothing(), timeout=20)
    [socket_] = plain.home.rglob("*.sock")
    with Real() as peers:
        seen = json.loads(peers.curl("http://admin/api/grpc", "--unix-socket", str(socket_)).text)
    assert seen["servers"]["server:server"]["methods"]["/todo.v1.Todo/ReadTodos"]["succeeded"] >= 1


def test_grpclib(plain: Process) -> None:
    pytest.importorskip("grpclib")
    from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod

    async def talk() -> None:
        channel = Channel("127.0.0.1", plain.port)
        create = UnaryUnaryMethod(channel, "/todo.v1.Todo/CreateTodo", pb.Item, pb.Item)
        assert (await create(pb.Item(text="by grpclib"), timeout=20)).text == "by grpclib"
        chat = StreamStreamMethod(channel, "/todo.v1.Todo/Chat", pb.Note, pb.Note)
        async with chat.open(timeout=20) as stream:
            await stream.send_message(pb.Note(text="ahoy"))
            note = await stream.recv_message()
            assert note is not None and note.text == "ahoy"
            await stream.end()
        channel.close()

    asyncio.run(talk())


def test_the_example_by_grpc_js(plain: Process) -> None:
    node = program("node")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").exists():
        unavailable("@grpc/grpc-js is not in .cache/node (scripts/setup installs it by npm)")
    said = client(plain, node, TODO / "node" / "client.js", env={"NODE_PATH": str(NODE / "node_modules")})
    assert said[0].startswith("made ") and "uploaded 2" in said and "heard ahoy, is anybody there?" in said
    assert said[-1] == "refused INVALID_ARGUMENT an item needs a text"


def test_chromium_by_grpc_web(plain: Process) -> None:
    with Browser() as page:
        page.goto(f"{plain.url}/")
        page.wait("document.body && document.body.dataset.ready")
        page.run('document.querySelector("input").value = "by Chromium ☺"; document.querySelector("form").requestSubmit()')
        page.wait('[...document.querySelectorAll("li")].some(line => line.textContent == "by Chromium ☺")')
        page.run('document.querySelector("input").value = ""; document.querySelector("form").requestSubmit()')
        page.wait('document.querySelector("#said").textContent == "3: an item needs a text"')
        assert not [error for error in page.errors if "favicon" not in error]


def test_nginx_in_front(plain: Process) -> None:
    with Real() as peers:
        front = peers.nginx(
            f"server {{ listen 127.0.0.1:@PORT@ http2; location / {{ grpc_pass grpc://127.0.0.1:{plain.port}; }} }}"
        )
        said = client(front, sys.executable, "-P", TODO / "client.py", env={"PYTHONPATH": str(TODO)})
        assert "uploaded 2" in said and said[-1] == "refused INVALID_ARGUMENT an item needs a text"


def test_our_proxy_in_front_with_tls(plain: Process) -> None:
    config = f"""
[[listener]]
bind = "127.0.0.1:@PORT@"
tls = {{ mode = "dev" }}
[[route]]
proxy = "todo"
[[upstream]]
name = "todo"
servers = ["127.0.0.1:{plain.port}"]
protocol = "h2c"
"""
    with Real() as peers:
        front = peers.fairlead(config=config, tls=True)
        eventually(lambda: list(front.home.rglob("ca.pem")))
        [ca] = front.home.rglob("ca.pem")
        with grpc.secure_channel(f"localhost:{front.port}", grpc.ssl_channel_credentials(ca.read_bytes())) as channel:
            todo = rpc.TodoStub(channel)
            assert todo.CreateTodo(pb.Item(text="over TLS"), timeout=20).text == "over TLS"
            assert [note.text for note in todo.Chat(iter([pb.Note(text="ahoy")]), timeout=20)] == ["ahoy"]


def test_connectrpc_as_an_application() -> None:
    pytest.importorskip("connectrpc")
    with Real() as peers:
        server = peers.fairlead("connect_todo:app", "--workers", "1", "--page", "off", env={"PYTHONPATH": path_of_apps()})
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            todo = rpc.TodoStub(channel)
            assert todo.CreateTodo(pb.Item(text="paint"), timeout=20) == pb.Item(id=7, text="paint")
            assert [item.id for item in todo.ReadTodosStream(pb.Nothing(), timeout=20)] == [0, 1, 2]
            assert [note.text for note in todo.Chat(iter([pb.Note(text="a"), pb.Note(text="b")]), timeout=20)] == ["a", "b"]
            with pytest.raises(grpc.RpcError) as caught:
                todo.ReadTodos(pb.Nothing(), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def path_of_apps() -> str:
    """Where the application and the generated code are."""
    return os.pathsep.join([str(Path(__file__).parent / "apps"), str(TODO)])
