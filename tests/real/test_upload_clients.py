"""Uploads on a real server, by clients that we did not write: curl (the guide's own scripts), tus-js-client, tuspy; with kill -9
of the workers and of the whole server at random bytes, and what the finished files feed.
"""

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clients import worker_pids
from peers import Real
from processes import Process, eventually, folder, program, unavailable

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "uploads.md"
NODE = Path(__file__).resolve().parents[2] / ".cache" / "node" / "node_modules"
SIZE = int(os.environ.get("FAIRLEAD_UPLOAD_MIB", "12")) << 20  # of the one that is killed again and again; the soak takes 2 GiB
KILLS = int(os.environ.get("FAIRLEAD_UPLOAD_KILLS", "2"))
HERE = str(Path(__file__).parent)
FILE = """
[server]
workers = 2
pattern = "shared"
grace = "2s"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[listener]]
name = "impatient"
bind = "unix:@FOLDER@/impatient.sock"
limits = { body_idle = "1s" }
[store]
url = "sqlite:///@FOLDER@/store.db"
[[route]]
path = "/files/*"
upload = { dir = "files", max = "10GiB", publish = "uploaded" }
[[route]]
path = "/done/*"
upload = { dir = "done", done = "uploads_apps:done", before = "uploads_apps:before", module_dir = "@HERE@" }
[[route]]
path = "/job/*"
upload = { dir = "job", job = "uploads_apps:size", module_dir = "@HERE@" }
[[route]]
path = "/app/*"
[route.upload]
dir = "app"
app = { target = "uploads_apps:app", dir = "@HERE@" }
[[route]]
path = "/jobs/size"
job = { run = "uploads_apps:size", dir = "@HERE@" }
[[route]]
path = "/t/{topic}"
topic = {}
"""
PARTIAL = {"content-type": "application/partial-upload"}


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """One for all of them; the tests that kill it, or its workers, leave it running. Other patterns: test_upload_patterns."""
    with Real() as peers:
        started = peers.fairlead(config=FILE.replace("@HERE@", HERE))
        started.says("Ctrl-C")
        yield started


def ask(server: Process, method: str, path: str, **options: object) -> httpx.Response:
    return httpx.request(method, server.url + path, timeout=20, **options)  # type: ignore[arg-type]


def kill_workers(server: Process) -> None:
    """kill -9, and wait for their successors."""
    old = worker_pids(server.pid)
    assert old
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(found := worker_pids(server.pid)) == len(old) and not set(found) & set(old), what="new workers")


def test_the_guides_scripts_do_what_the_guide_says(server: Process) -> None:
    program("curl")
    blocks = re.findall(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) >= 9
    place = folder()
    script = "set -eu\n" + "".join(f"echo '--- {number}'\n{block}\n" for number, (block, _) in enumerate(blocks))
    done = subprocess.run(
        ["bash", "-c", script], cwd=place, env={**os.environ, "BASE": server.url}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout
    outputs = re.split(r"--- \d+\n", done.stdout)[1:]
    for output, (block, expected) in zip(outputs, blocks):
        at = 0
        for line in expected.splitlines():
            status = line.startswith("HTTP/")  # in this order; fields in any
            found = output.find(line, at if status else 0)
            assert found >= 0, f"{line!r} is not in what this printed:\n{block}\n{output}"
            at = found + len(line) if status else at


def test_what_finished_files_feed(server: Process) -> None:
    got = ask(server, "PUT", "/done/a.txt", content=b"12345")
    assert got.status_code == 201 and got.json()["size"] == 5 and got.json()["name"] == "a.txt"
    got = ask(server, "PUT", "/done/a.exe", content=b"12345")
    assert got.status_code == 415 and "no programs" in got.text
    got = ask(server, "PUT", "/app/x?y=1", content=b"12345", headers={"content-type": "text/csv", "authorization": "Bearer 1"})
    assert got.json() == {
        "path": "/app/x", "method": "PUT", "sha": hashlib.sha256(b"12345").hexdigest(), "type": "text/csv", "length": "5",
        "auth": "Bearer 1",
    }  # fmt: skip
    got = ask(server, "PUT", "/job/b.bin", content=b"1234567")
    assert got.status_code == 202
    job = ask(server, "GET", got.headers["content-location"], headers={"prefer": "wait=10"})
    if job.json()["state"] != "succeeded":
        job = ask(server, "GET", got.headers["content-location"] + "/result", headers={"prefer": "wait=10"})
    eventually(lambda: ask(server, "GET", got.headers["content-location"]).json()["state"] == "succeeded", what="the job")
    assert ask(server, "GET", got.headers["content-location"] + "/result").json() == {"size": 7, "name": "b.bin"}
    place = ask(server, "POST", "/files", content=b"xyz", headers={"upload-complete": "?1"}).headers["location"]
    events = ask(server, "GET", "/t/uploaded?offset=-1").json()
    assert place.endswith(events[-1]["id"]) and events[-1]["length"] == 3


def test_an_application_gets_the_parts_as_one_request(server: Process) -> None:
    data = os.urandom(3 << 20)
    begun = ask(server, "POST", "/app", content=data[: 1 << 20], headers={"upload-complete": "?0"})
    headers = {**PARTIAL, "upload-offset": str(1 << 20), "upload-complete": "?1"}
    got = ask(server, "PATCH", begun.headers["location"], content=data[1 << 20 :], headers=headers)
    assert got.status_code == 200 and got.headers["upload-complete"] == "?1"
    assert got.json()["sha"] == hashlib.sha256(data).hexdigest()


def test_104_over_http2_is_for_those_who_ask(server: Process) -> None:
    program("curl")
    for version, count in (("8", 1), ("7", 0)):
        done = subprocess.run(
            ["curl", "-sS", "-i", "--http2-prior-knowledge", f"{server.url}/files", "-H", "upload-complete: ?1", "-H",
             f"upload-draft-interop-version: {version}", "--data-binary", "hello"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert done.stdout.count("HTTP/2 104") == count and "HTTP/2 201" in done.stdout, done.stdout + done.stderr


class Pusher:
    """Pushes a file by the draft over plain sockets, so that it can be cut at any byte."""

    def __init__(self, server: Process, size: int) -> None:
        self.server, self.size = server, size
        self.random = random.Random(size)
        self.block = self.random.randbytes(1 << 20)
        self.place = ""
        self.told = 0

    def bytes_at(self, start: int, count: int) -> bytes:
        """The file's bytes: one block, again and again, each time turned by its number."""
        out = b""
        while count > 0:
            number, at = divmod(start, len(self.block))
            turned = number % 251
            part = (self.block[turned:] + self.block[:turned])[at : at + count]
            out += part
            start, count = start + len(part), count - len(part)
        return out

    def begin(self) -> None:
        got = ask(self.server, "POST", "/files", headers={"upload-complete": "?0", "upload-length": str(self.size)})
        self.place = got.headers["location"]

    def offset(self) -> int:
        """Where to go on; it never goes back behind what was told."""

        def answered() -> int | None:
            try:
                got = ask(self.server, "HEAD", self.place)
            except httpx.TransportError:
                return None
            return int(got.headers["upload-offset"]) if got.status_code == 204 else None

        deadline = time.monotonic() + 60
        while (found := answered()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert found >= self.told, "an offset that was told is lost"
        self.told = found
        return found

    def push(self, start: int, until: int) -> bool:
        """Send from `start`; stop sending at `until` and leave the request open. True when the upload is complete."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=120) as sock:
            head = (
                f"PATCH {self.place} HTTP/1.1\r\nHost: x\r\nContent-Type: application/partial-upload\r\nUpload-Offset: {start}\r\n"
                f"Upload-Complete: ?1\r\nContent-Length: {self.size - start}\r\n\r\n"
            )
            sock.sendall(head.encode())
            while start < until:
                count = min(1 << 20, until - start)
                sock.sendall(self.bytes_at(start, count))
                start += count
            if until < self.size:
                return False
            return b"HTTP/1.1 201" in sock.recv(65536)


def memory_of(pids: list[int]) -> int:
    """Most resident bytes of a process so far."""
    found = [int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) for pid in pids]  # type: ignore[index]
    return max(found) << 10


def test_an_upload_across_kills_arrives_whole_with_memory_flat(server: Process) -> None:
    before = memory_of(worker_pids(server.pid))
    pusher = Pusher(server, SIZE)
    pusher.begin()
    for number in range(KILLS):
        start = pusher.offset()
        until = min(SIZE - 1, start + pusher.random.randrange(1, 2 * SIZE // (KILLS + 1)))
        try:
            pusher.push(start, until)
        except OSError:
            pass
        if number % 2:
            server.signal(signal.SIGKILL)
            server.wait()
            eventually(lambda: not listening(server.port), what="the workers of a killed master are gone")
            starts = server.text().count("Ctrl-C")
            server.start()  # all workers have to be there: one that is killed while it starts is the end of a start
            eventually(lambda n=starts: server.text().count("Ctrl-C") > n, 60, "the server is ready again")
        else:
            kill_workers(server)
    start = pusher.offset()
    assert pusher.push(start, SIZE)
    assert pusher.offset() == SIZE
    name = pusher.place.rpartition("/")[2]
    told, wanted = hashlib.sha256(), hashlib.sha256()
    with open(server.home / "files" / name, "rb") as file:
        for at in range(0, SIZE, 1 << 20):
            told.update(file.read(1 << 20))
            wanted.update(pusher.bytes_at(at, min(1 << 20, SIZE - at)))
        assert not file.read(1)
    assert told.digest() == wanted.digest()
    after = memory_of(worker_pids(server.pid))
    assert after < before + (48 << 20), f"from {before >> 20} to {after >> 20} MiB"


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


TUS = """
import fs from "node:fs"
import readline from "node:readline"
import * as tus from "tus-js-client"
const [endpoint, path] = process.argv.slice(2)
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
let paused = false
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint, chunkSize: 200000, uploadSize: fs.statSync(path).size, metadata: { filename: "a.bin" },
  retryDelays: [50, 100, 500, 1000],
  async onChunkComplete(size, accepted) {
    if (paused || accepted < 600000) return
    paused = true
    console.log("paused", accepted)
    await upload.abort()
    await lines.next()
    upload.start()
  },
  onSuccess() { console.log("done", upload.url); process.exit(0) },
  onError(error) { console.log("failed", String(error)); process.exit(1) },
})
upload.start()
"""


def test_tus_js_client_resumes_after_a_kill(server: Process) -> None:
    program("node")
    if not (NODE / "tus-js-client").exists():
        unavailable("tus-js-client is not in .cache/node (scripts/setup installs it by npm)")
    place = folder()
    data = os.urandom(2_000_000)
    (place / "a.bin").write_bytes(data)
    (place / "push.mjs").write_text(TUS)
    (place / "node_modules").symlink_to(NODE.resolve())
    client = subprocess.Popen(
        ["node", "push.mjs", server.url + "/files", "a.bin"], cwd=place,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watch = threading.Timer(60, client.kill)  # its end is the end of every readline
    watch.start()
    try:
        assert client.stdin and client.stdout
        assert client.stdout.readline().startswith("paused")
        kill_workers(server)
        client.stdin.write("go\n")
        client.stdin.flush()
        word, url = client.stdout.readline().split(maxsplit=1)
        assert word == "done", url
        assert client.wait(20) == 0
    finally:
        watch.cancel()
        client.kill()
        client.wait()
    assert (server.home / "files" / url.strip().rpartition("/")[2]).read_bytes() == data


def test_tuspy_uploads_and_resumes(server: Process) -> None:
    tusclient = pytest.importorskip("tusclient.client")
    place = folder()
    data = os.urandom(1_000_000)
    (place / "b.bin").write_bytes(data)
    client = tusclient.TusClient(server.url + "/files")
    first = client.uploader(str(place / "b.bin"), chunk_size=200_000, metadata={"filename": "b.bin"})
    first.upload_chunk()
    assert first.offset == 200_000
    second = client.uploader(str(place / "b.bin"), url=first.url, chunk_size=300_000, upload_checksum=True)
    assert second.offset == 200_000
    second.upload()
    name = first.url.rpartition("/")[2]
    assert (server.home / "files" / name).read_bytes() == data
    assert json.loads((server.home / "files" / f"{name}.json").read_text())["filename"] == "b.bin"


def test_a_body_that_stops_is_cut_and_kept(server: Process) -> None:
    pusher = Pusher(server, 100_000)
    pusher.begin()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(server.home / "impatient.sock"))
        head = (
            f"PATCH {pusher.place} HTTP/1.1\r\nHost: x\r\nContent-Type: application/partial-upload\r\nUpload-Offset: 0\r\n"
            f"Upload-Complete: ?1\r\nContent-Length: 100000\r\n\r\n"
        )
        sock.sendall(head.encode() + pusher.bytes_at(0, 40_000))
        assert b"408" in sock.recv(4096).partition(b"\r\n")[0]
    assert pusher.offset() == 40_000
    assert pusher.push(40_000, 100_000)

