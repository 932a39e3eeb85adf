"""The store with real processes: what it promises is shown and checked at start, and its keeper may die at any time."""

import http.client
import itertools
import json
import os
import signal
import threading

from clients import worker_pids
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


def test_killing_the_keeper_and_a_worker_under_publishes_loses_and_doubles_nothing(real):
    topics = CONFIG.replace("@MORE@", "").replace('respond = "hello"', 'path = "/events/{topic}"\ntopic = {}')
    server = real.fairlead(config=topics)
    server.says("Ctrl-C")
    acknowledged, stop = [], threading.Event()

    def publish(number):
        for count in itertools.count():
            if stop.is_set():
                return
            value = f"{number}.{count}"
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                connection.request("POST", "/events/t", json.dumps(value), {"content-type": "application/json"})
                if connection.getresponse().status in (200, 201, 204):
                    acknowledged.append(value)
            except (OSError, http.client.HTTPException):
                pass  # the worker was killed: it may have been published or not
            finally:
                connection.close()

    threads = [threading.Thread(target=publish, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(acknowledged) > 20, what="publishes")
        keeper = status(real, server)[0]["keeper"]
        assert keeper > 1  # 0, which is none, would be all of us
        os.kill(keeper, signal.SIGKILL)
        os.kill(next(pid for pid in worker_pids(server.pid) if pid != keeper), signal.SIGKILL)
        least = len(acknowledged) + 20
        eventually(lambda: len(acknowledged) > least, what="publishes again")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    found = json.loads(real.curl(f"{server.url}/events/t?offset=-1").body)
    assert len(found) == len(set(found)), "something was published twice"
    assert not set(acknowledged) - set(found), "something acknowledged is lost"
    for number in range(4):
        mine = [int(value.partition(".")[2]) for value in found if value.startswith(f"{number}.")]
        assert mine == sorted(mine)
