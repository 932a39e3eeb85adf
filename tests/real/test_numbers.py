"""A pid file, a unix socket's mode, and numbers sent to a StatsD receiver, by a running server."""

import os
import socket
import stat
import time

from peers import Real
from processes import PATIENCE, eventually

CONFIG = """
[server]
workers = 1
pid_file = "@FOLDER@/run.pid"

[metrics]
statsd = "127.0.0.1:{port}"
prefix = "shop."
every = "200ms"

[[listener]]
bind = ["127.0.0.1:@PORT@", "unix:@FOLDER@/s"]
socket = {{ permissions = "640" }}

[[route]]
respond = "x"
"""


def test_numbers_files_and_modes(real: Real) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE)
        server = real.fairlead(config=CONFIG.format(port=receiver.getsockname()[1]))
        home = server.home
        eventually((home / "run.pid").exists, what="the pid file")
        assert int((home / "run.pid").read_text()) == server.pid
        assert stat.S_IMODE(os.stat(home / "s").st_mode) == 0o640
        for _ in range(3):
            assert real.curl(server.url).status == 200
        counted, end = 0, time.monotonic() + PATIENCE
        while counted < 3 and time.monotonic() < end:
            for line in receiver.recv(2048).decode().split("\n"):
                name, _, value = line.partition(":")
                if name == "shop.requests":
                    counted += int(value.removesuffix("|c"))
        assert counted == 3
        server.stop()
        assert not (home / "run.pid").exists()
