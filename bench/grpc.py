"""gRPC: what a call costs, a message in each direction of streaming, and an idle connection, beside grpc.aio and grpclib.

    python bench/grpc.py [--seconds 2] [--rounds 3] [--idle 1000]

CPU microseconds of the server's process per unary call with 16 in flight on one connection, and per message of a stream of
10,000; server on one core and h2load on the other, in turn (A B C A B C ...), medians; then bytes (PSS) per idle connection that
has made a call. All three serve the same protobuf messages (examples/todo). Aims: 0.08 x grpc.aio and 0.1 x grpclib a call, a
tenth of grpc.aio a message, 25 KB a connection. Needs grpcio, grpclib and uvloop beside Fairlead in this Python, and h2load
(Debian: nghttp2-client).
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROTO = Path(__file__).resolve().parent.parent / "examples" / "todo"
MESSAGES = 10_000
SERVICER = f"""
import grpc, todo_pb2 as pb, todo_pb2_grpc as rpc
class Todo(rpc.TodoServicer):
    async def CreateTodo(self, request, context):
        return pb.Item(id=7, text=request.text)
    async def ReadTodosStream(self, request, context):
        for number in range({MESSAGES}):
            yield pb.Item(id=number, text="wash the car")
    async def UploadTodos(self, requests, context):
        count = 0
        async for item in requests:
            count += 1
        return pb.Uploaded(count=count)
"""
OURS = """
import fairlead, servicer
server = fairlead.grpc.Server(max_message=0)
servicer.rpc.add_TodoServicer_to_server(servicer.Todo(), server)
"""
AIO = """
import asyncio, sys, grpc, servicer
async def main():
    server = grpc.aio.server()
    servicer.rpc.add_TodoServicer_to_server(servicer.Todo(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""
GRPCLIB = """
import asyncio, sys, todo_pb2 as pb, uvloop
from grpclib.const import Cardinality, Handler
from grpclib.server import Server
class Todo:
    async def create(self, stream):
        request = await stream.recv_message()
        await stream.send_message(pb.Item(id=7, text=request.text))
    async def read(self, stream):
        await stream.recv_message()
        for number in range(MESSAGES):
            await stream.send_message(pb.Item(id=number, text="wash the car"))
    async def upload(self, stream):
        count = 0
        async for item in stream:
            count += 1
        await stream.send_message(pb.Uploaded(count=count))
    def __mapping__(self):
        return {
            "/todo.v1.Todo/CreateTodo": Handler(self.create, Cardinality.UNARY_UNARY, pb.Item, pb.Item),
            "/todo.v1.Todo/ReadTodosStream": Handler(self.read, Cardinality.UNARY_STREAM, pb.Nothing, pb.Item),
            "/todo.v1.Todo/UploadTodos": Handler(self.upload, Cardinality.STREAM_UNARY, pb.Item, pb.Uploaded),
        }
async def main():
    server = Server([Todo()])
    await server.start("127.0.0.1", int(sys.argv[1]))
    await server.wait_closed()
uvloop.run(main())
""".replace("MESSAGES", str(MESSAGES))
ITEM = b"\x12\x0cwash the car"
ONE = b"\0" + len(ITEM).to_bytes(4, "big") + ITEM
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and its children."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    ticks = 0
    for one in [pid, *map(int, found)]:
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> int:
    """Bytes of memory of a process and its children, shared pages by share."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    lines = [line for one in [pid, *found] for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def load(port: int, method: str, body: Path, streams: int, seconds: float) -> int:
    """Have h2load call for so long; how many calls succeeded. All must."""
    command = ["h2load", "-c", "1", "-m", str(streams), "-D", f"{round(seconds * 1000)}ms", "-w", "24", "-W", "24", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command.append(f"http://127.0.0.1:{port}/todo.v1.Todo/{method}")
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    assert found and found[2] == found[3] == "0" and int(found[1]), text
    return int(found[1])


CASES = {  # name: method, messages of the request, in flight, messages that a call counts as
    "unary": ("CreateTodo", 1, 16, 1),
    "server streaming": ("ReadTodosStream", 0, 1, MESSAGES),
    "client streaming": ("UploadTodos", MESSAGES, 1, MESSAGES),
}


def idle(pid: int, port: int, count: int) -> float:
    """Bytes per idle connection that has said its preface and made a call."""
    held = [called(port) for _ in range(100)]
    time.sleep(1)
    before = pss(pid)
    held += [called(port) for _ in range(count)]
    time.sleep(1)
    each = (pss(pid) - before) / count
    for sock in held:
        sock.close()
    return each


def called(port: int) -> socket.socket:
    """A connection that has made one unary call."""
    sock = socket.create_connection(("127.0.0.1", port))
    fields = b"\x83\x86\x44\x18/todo.v1.Todo/CreateTodo"
    fields += b"\x41\x01a\x5f\x10application/grpc\x40\x02te\x08trailers"
    head = len(fields).to_bytes(3, "big") + b"\x01\x04\0\0\0\x01" + fields
    sock.sendall(PREFACE + head + len(ONE).to_bytes(3, "big") + b"\0\x01\0\0\0\x01" + ONE)
    heard = b""
    while ITEM not in heard:
        piece = sock.recv(65536)
        assert piece, heard
        heard += piece
    return sock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--only", default="", help="one case")
    parser.add_argument("--peers", default="fairlead,grpc.aio,grpclib")
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, text in (("servicer", SERVICER), ("ours", OURS), ("by_aio", AIO), ("by_grpclib", GRPCLIB)):
            (home / f"{name}.py").write_text(text)
        for name in ("todo_pb2.py", "todo_pb2_grpc.py"):
            (home / name).write_text((PROTO / name).read_text())
        for number in {case[1] for case in CASES.values()}:
            (home / f"body{number}").write_bytes(ONE * number if number else b"\0\0\0\0\0")
        ports = {name: free_port() for name in given.peers.split(",")}
        ours = [sys.executable, "-P", "-m", "fairlead", "run", "ours:server", "--bind", f"127.0.0.1:{ports['fairlead']}"]
        ours += ["--workers", "1", "--pattern", "single", "--page", "off", "--access-log", "off", "--server-timing", "off"]
        commands = {
            "fairlead": ours,
            "grpc.aio": [sys.executable, "by_aio.py", str(ports.get("grpc.aio"))],
            "grpclib": [sys.executable, "by_grpclib.py", str(ports.get("grpclib"))],
        }
        env = {**os.environ, "XDG_RUNTIME_DIR": folder, "PYTHONPATH": folder, "GRPC_VERBOSITY": "NONE"}
        pin = ["taskset", "-c", str(cores[0])]
        running = {
            name: subprocess.Popen([*pin, *commands[name]], cwd=home, env=env, stdout=-3, stderr=-3)
            for name in ports
        }
        os.sched_setaffinity(0, {cores[-1]})
        try:
            time.sleep(3)
            for case, (method, messages, streams, counts) in CASES.items():
                if given.only and given.only != case:
                    continue
                found: dict[str, list[float]] = {name: [] for name in running}
                for _ in range(given.rounds):
                    for name, process in running.items():
                        before = cpu(process.pid)
                        calls = load(ports[name], method, home / f"body{messages}", streams, given.seconds)
                        found[name].append((cpu(process.pid) - before) / (calls * counts) * 1e6)
                us = {name: statistics.median(values) for name, values in found.items()}
                for name, value in us.items():
                    print(f"{case:17} {name:10} {value:7.2f} us  {us['fairlead'] / value:6.3f} x", flush=True)
            if given.idle:
                each = idle(running["fairlead"].pid, ports["fairlead"], given.idle)
                print(f"idle              fairlead   {each:7.0f} bytes each of {given.idle}")
        finally:
            for process in running.values():
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
