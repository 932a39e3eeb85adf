"""A full disk: a tmpfs of 64 KiB that only the server sees (a mount namespace of its own) holds both its logs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from peers import surroundings
from processes import eventually, folder, free_port, program, unavailable

CONFIG = """
[server]
workers = 1
[log]
access = "@SMALL@/access.log"
file = "@SMALL@/server.log"
flush = "50ms"
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
respond = "hello"
"""
LINE = re.compile(r'\S+ \S+ "GET /(\d+) HTTP/1\.1" 200 .*')


@pytest.fixture
def server(real):
    if subprocess.run([program("unshare"), "-m", "true"], capture_output=True).returncode:
        unavailable("a mount namespace needs root")
    home, port = folder(), free_port()
    small = home / "small"
    small.mkdir()
    (home / "fairlead.toml").write_text(CONFIG.replace("@SMALL@", str(small)).replace("@PORT@", str(port)))
    script = f'mount -t tmpfs -o size=64k none {small} && exec "$@"'
    ours = [sys.executable, "-m", "fairlead", "run", "fairlead.toml"]
    server = real.run("unshare", "-m", "sh", "-c", script, "sh", *ours, home=home, env=surroundings(home), port=port)
    server.ready()
    server.says("Ctrl-C")
    server.small = Path(f"/proc/{server.pid}/root{small}")
    return server


def test_a_full_disk_stops_no_request_is_said_once_and_is_over_when_there_is_room(real, server):
    access, own, filler = server.small / "access.log", server.small / "server.log", server.small / "filler"

    def ask(first, count):
        for number in range(first, first + count):
            assert real.curl(f"{server.url}/{number}").status == 200

    ask(0, 3)
    eventually(lambda: access.read_text().count("\n") == 3, what="three lines")
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    ask(3, 40)
    server.says("cannot write the access log .*: No space left on device")
    ask(43, 10)
    said = server.text()
    assert len(re.findall("cannot write the access log", said)) == 1 and "Traceback" not in said
    assert len(re.findall("cannot write the log .*No space left on device", said)) == 1
    filler.unlink()
    ask(53, 3)
    eventually(lambda: access.read_text().count("\n") == 56, what="every line")
    seen = [LINE.fullmatch(line) for line in access.read_text().splitlines()]
    assert all(seen) and [int(one[1]) for one in seen] == list(range(56))
    eventually(lambda: "is written again" in own.read_text(), what="the end of it in the log")
    assert server.running
