"""The store with real processes: what it promises is shown and checked at start, and its keeper may die at any time."""

import json
import os
import signal

from processes import eventually

CONFIG = """
[server]
workers = 2
grace = "5s"
[admin]
bind = "unix:admin.sock"
[log]
access = "off"
[store]
url = "sqlite:///a.db"
@MORE@
[[listener]]
bind = "127.0.0.1:@PORT@"
[[route]]
respond = "hello"
"""


def serve(real, more=""):
    server = real.fairlead(config=CONFIG.replace("@MORE@", more))
    server.says("Ctrl-C")
    return server


def status(real, server):
    asked = real.command("status", "--json", "--admin", "unix:admin.sock", home=server.home)
    value = json.loads(asked.stdout)
    return (value if isinstance(value, dict) and "store" in value else next(iter(value.values())))["store"]


def test_what_the_store_promises_is_said_and_a_killed_keeper_comes_back(real):
    server = serve(real)
    server.says(r"store    sqlite:///a\.db   \(sqlite [\d.]+, ack node\+fsync\)")
    [store] = status(real, server)
    assert store["ack"] == "node+fsync" and store["keeper"]
    os.kill(store["keeper"], signal.SIGKILL)
    server.says(r"keeper \(pid \d+\) of sqlite:///a\.db: it is gone")
    eventually(lambda: status(real, server)[0]["keeper"] not in (0, store["keeper"]), what="another keeper")
    real.command("reload", "--workers", "--admin", "unix:admin.sock", home=server.home)
    assert real.curl(server.url).status == 200
    server.stop()
    assert not os.path.exists(f"/proc/{store['keeper']}")


def test_asking_for_more_than_the_engine_promises_is_said_at_start(real):
    server = real.fairlead(config=CONFIG.replace("@MORE@", 'ack = "quorum"'), wait=False)
    server.says(r'store\.ack = "quorum": sqlite .* promises "node\+fsync" only \(write store\.ack = "node\+fsync"')


def test_a_new_binary_takes_the_keepers_socket_over(real):
    server = serve(real)
    [before] = status(real, server)
    os.kill(server.pid, signal.SIGUSR2)
    server.says(r"process \d+ serves now")
    eventually(lambda: status(real, server)[0]["keeper"] not in (0, before["keeper"]), what="the new master's keeper")
    assert status(real, server)[0]["ack"] == "node+fsync"
    assert real.curl(server.url).status == 200
