"""Session tickets with openssl s_client: one key for all workers, replaced while they serve, kept by a reload.

A ticket begins with the name of the key that sealed it (RFC 5077 section 4), which s_client prints: so the tests see the
key change instead of waiting for it.
"""

import re
import subprocess

import pytest
from processes import eventually, program

CONFIG = """
[server]
workers = 2
ticket_rotation = "PERIOD"
[log]
access = "off"
[[listener]]
bind = "127.0.0.1:@PORT@"
tls = { certificate = "@CERT@", key = "@KEY@" }
[[route]]
app = "who:app"
"""
WHO = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = b"pid %d" % os.getpid()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})
"""


class Client:
    """s_client against one server; sessions are files."""

    def __init__(self, server, version):
        self.server, self.version = server, version

    def ask(self, *words):
        """(resumed, name of the key, the worker's pid)"""
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{self.server.port}", self.version]
        said = subprocess.run(
            [*command, "-ign_eof", *map(str, words)],
            input=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            capture_output=True,
            timeout=30,
        ).stdout.decode(errors="replace")
        keys = re.findall(r"TLS session ticket:\s+0000 - ([0-9a-f -]{47})", said)
        pid = re.search(r"pid (\d+)", said)
        assert keys and pid, said
        return "Reused, TLSv1" in said, keys[-1], int(pid[1])

    def new(self, file):
        """A full handshake whose session goes to a file; the name of its key."""
        resumed, key, _ = self.ask("-sess_out", file)
        assert not resumed
        return key


def started(real, period):
    server = real.fairlead(config=CONFIG.replace("PERIOD", period), files={"who.py": WHO}, tls=True)
    server.says("Ctrl-C")
    return server


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_of_one_worker_is_taken_up_by_the_other_and_after_a_reload(real, version, tmp_path):
    server = started(real, "12h")
    client, session = Client(server, version), tmp_path / "session"
    key = client.new(session)
    pids = set()

    def both_took_it_up():
        resumed, same, pid = client.ask("-sess_in", session)
        assert resumed and same == key
        pids.add(pid)
        return len(pids) == 2

    eventually(both_took_it_up, what="both workers answer")
    done = real.command("reload", "--workers", "--admin", f"unix:{server.home}/fairlead-{server.port}.sock")
    assert done.returncode == 0 and "new workers serve" in done.stdout, done
    resumed, same, pid = client.ask("-sess_in", session)
    assert resumed and same == key and pid not in pids


def test_a_session_outlives_one_change_of_the_key_and_not_two(real, tmp_path):
    server = started(real, "1500ms")
    client, old = Client(server, "-tls1_2"), tmp_path / "old"

    def taken_up_after_one_change():
        first = client.new(old)
        eventually(lambda: client.ask()[1] != first, what="another key")
        second = client.ask()[1]
        resumed, _, _ = client.ask("-sess_in", old)
        return resumed and client.ask()[1] == second  # else the key changed once more meanwhile

    eventually(taken_up_after_one_change, what="a session taken up with the key before")
    eventually(lambda: not client.ask("-sess_in", old)[0], what="a full handshake once its key is gone")
