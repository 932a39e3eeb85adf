"""The supervisor with real processes: stuck and worn workers, systemd, a new binary, signals in every phase."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from clients import alive, under_load, worker_pids
from peers import surroundings
from processes import eventually, free_port

APP = """
import asyncio, os, re, time
WEIGHT = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/block":
        blocking_call()
    if scope["path"] == "/lock":
        re.match(r"(a+)+$", "a" * int(scope["query_string"]) + "b")
    if scope["path"] == "/grow":
        WEIGHT.append(bytearray(os.urandom(1)) * 50_000_000)
    body = b"one " + str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

def blocking_call():
    while not os.path.exists("go"):
        time.sleep(0.01)
"""
CONFIG = """
[server]
workers = @WORKERS@
grace = "5s"
@MORE@
[admin]
bind = "unix:admin.sock"
[log]
access = "off"
[[listener]]
name = "web"
bind = ["127.0.0.1:@PORT@", "unix:web.sock"]
[[route]]
path = "/*"
app = "shop:app"
"""


def serve(real, more: str = "", workers: int = 1, **options):
    """Our server, serving."""
    config = CONFIG.replace("@MORE@", more).replace("@WORKERS@", str(workers))
    server = real.fairlead(config=config, files={"shop.py": APP}, **options)
    server.says("Ctrl-C")
    return server


def ask(server, path: str) -> socket.socket:
    """One request, which is in the kernel of the server's side when this returns; not its answer."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return sock


# ---- stuck and worn


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_stuck_loop_is_reported_with_its_stack_and_then_with_those_that_waited(real, loop):
    server = serve(real, f'stuck = "200ms"\nloop = "{loop}"')
    asking = [ask(server, "/block")]
    server.says(r"worker 0 has stood still for \d+\.\d s in GET /block \(id \w+, route /\*, running for \d+\.\d s\)")
    asking += [ask(server, f"/waits/{number}") for number in range(3)]
    (server.home / "go").touch()
    for one in asking:
        with one:
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
    server.says(r"goes on after \d+\.\d s; 4 requests waited because of it")
    text = server.text()
    assert re.search(r'shop\.py", line \d+, in blocking_call\s+(time\.sleep|while not)', text), text
    assert re.search(r"\d\.\d+ s  GET /waits/1  id=\w+ route=\S+", text), text

    def metrics() -> str:  # they are gathered once a second
        return real.curl("http://x/metrics", "--unix-socket", str(server.home / "admin.sock")).text

    eventually(lambda: re.search(r"^fairlead_stalls_total [1-9]", metrics(), re.MULTILINE), what="the stall is counted")


def test_a_loop_that_holds_the_interpreter_lock_has_its_stack_written_from_c(real):
    server = serve(real, 'stuck = "200ms"')
    with ask(server, "/lock?32"):
        server.says("lets no other Python code run")
        server.says(r'shop\.py", line 11 in app')
        (pid,) = worker_pids(server.pid)
        os.kill(pid, signal.SIGKILL)


def test_a_worker_that_stands_still_for_too_long_is_replaced(real):
    server = serve(real, 'stuck_limit = "500ms"')
    (before,) = worker_pids(server.pid)
    os.kill(before, signal.SIGSTOP)
    server.says("has stood still for .* and is replaced")
    eventually(lambda: len(worker_pids(server.pid)) == 2, what="a successor beside it")
    os.kill(before, signal.SIGCONT)
    eventually(lambda: not alive(before), what="the old worker leaves")
    assert real.curl(server.url + "/").status == 200


def test_a_worker_that_grows_too_heavy_is_replaced_and_no_request_is_lost(real):
    server = serve(real, 'max_memory = "200MiB"')
    (before,) = worker_pids(server.pid)
    with under_load(server.port) as load:
        for _ in range(4):
            assert real.curl(server.url + "/grow").status == 200
        server.says(r"worker 0 is replaced: it takes \d+ MiB")
        eventually(lambda: not alive(before), what="the heavy worker is gone")
    assert not load.failures, load.failures


def test_a_worker_that_dies_again_and_again_is_started_ever_more_slowly(real):
    server = serve(real)
    for pause in ("0.5 s", "1 s", "2 s"):
        eventually(lambda: worker_pids(server.pid) and real.curl(server.url + "/").status == 200, what="a worker")
        os.kill(worker_pids(server.pid)[0], signal.SIGKILL)
        server.says(f"gone: killed by SIGKILL; a new one starts in {pause}\n")
    server.says("worker 0 has died 3 times within 10 s of its start: see what the application does")


# ---- systemd


class Notified:
    """What systemd would hear."""

    def __init__(self, home: Path) -> None:
        self.path = home / "notify.sock"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.sock.settimeout(20)

    def until(self, word: str) -> str:
        """Wait for a message that has this word."""
        while word not in (message := self.sock.recv(4096).decode()):
            pass
        return message


ACTIVATE = """
import os, socket, sys
socks = []
for place, where in enumerate(sys.argv[1].split(",")):
    sock = socket.create_server(("127.0.0.1", int(where))) if where.isdigit() else socket.socket(socket.AF_UNIX)
    if not where.isdigit():
        sock.bind(where); sock.listen()
    os.dup2(sock.fileno(), 40 + place)
    socks.append(sock)
for place in range(len(socks)):
    os.dup2(40 + place, 3 + place)
    os.set_inheritable(3 + place, True)
    os.close(40 + place)
os.environ.update(LISTEN_FDS=str(len(socks)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "fairlead", *sys.argv[3:]])
"""


def activated(real, home: Path, sockets: str, names: str, *words: str, port: int, env: dict[str, str] | None = None):
    """Our server as systemd starts it: sockets open already, their names and its own in the environment."""
    (home / "shop.py").write_text(APP)
    (home / "activate.py").write_text(ACTIVATE)
    argv = [sys.executable, "activate.py", sockets, names, "run", *words]
    return real.run(*argv, home=home, env={**surroundings(home), **(env or {})}, port=port)


def test_sockets_that_systemd_opened_are_served_and_it_hears_of_every_change(real):
    home, port, other = real.home(), free_port(), free_port()
    systemd = Notified(home)
    config = CONFIG.replace("@MORE@", "").replace("@WORKERS@", "2").replace("@PORT@", str(port))
    (home / "fairlead.toml").write_text(config.replace('"unix:web.sock"', f'"unix:{home}/web.sock"'))
    env = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "300000"}
    passed = f"{port},{other},{home}/web.sock"
    server = activated(real, home, passed, "web:stray:web", "fairlead.toml", port=port, env=env)
    assert f"MAINPID={server.pid}" in systemd.until("READY=1")
    server.says(rf"the passed socket 127\.0\.0\.1:{other} \(\"stray\"\) belongs to no listener")
    served = {real.curl(server.url + "/").text for _ in range(20)}
    assert real.curl("http://x/", "--unix-socket", str(home / "web.sock")).status == 200
    assert all(one.startswith("one ") for one in served)
    systemd.until("WATCHDOG=1")
    server.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in systemd.until("RELOADING=1")
    systemd.until("READY=1")
    server.signal(signal.SIGTERM)
    systemd.until("STOPPING=1")
    assert server.wait() == 0
    assert (home / "web.sock").exists(), "the path belongs to systemd"


def test_an_application_without_bind_is_served_on_what_systemd_passed(real):
    home, port = real.home(), free_port()
    words = ("shop:app", "--page", "off", "--workers", "1", "--access-log", "off")
    server = activated(real, home, str(port), "", *words, port=port)
    server.says(f"http://127.0.0.1:{port}\n")
    assert real.curl(server.url + "/").status == 200


# ---- a new binary


def masters(home: Path) -> set[int]:
    """The processes that run `fairlead run` in a folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"run" in words and b"fairlead" in words and os.readlink(entry / "cwd") == str(home):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_new_master_takes_the_sockets_and_no_request_is_lost(real, how):
    server = serve(real, workers=2)
    old, workers = server.pid, set(worker_pids(server.pid))
    with under_load(server.port) as load:
        if how == "signal":
            server.signal(signal.SIGUSR2)
        else:
            done = real.command("reload", "--binary", "--admin", "unix:admin.sock", home=server.home)
            assert done.returncode == 0 and f"process {old} drains" in done.stdout, done
        assert server.wait() == 0
        load.answered(50)
    assert not load.failures, load.failures
    assert not any(alive(pid) for pid in workers)
    (new,) = masters(server.home)
    assert new != old and len(worker_pids(new)) == 2
    assert real.curl("http://x/", "--unix-socket", str(server.home / "web.sock")).status == 200
    status = real.command("status", "--admin", "unix:admin.sock", home=server.home)
    assert f"pid {new}, ready" in status.stdout, status
    os.kill(new, signal.SIGTERM)
    eventually(lambda: not alive(new), what="the new master ends")
    assert not (server.home / "web.sock").exists() and not (server.home / "admin.sock").exists()


def test_a_new_master_that_cannot_start_leaves_the_old_one_serving(real):
    server = serve(real)
    (worker,) = worker_pids(server.pid)
    (server.home / "shop.py").write_text("1/0\n")
    done = real.command("reload", "--binary", "--admin", "unix:admin.sock", home=server.home)
    assert done.returncode == 1 and "did not start" in done.stderr and "nothing was changed" in done.stderr, done
    assert "ZeroDivisionError" in server.text()
    assert real.curl(server.url + "/").status == 200
    assert worker in worker_pids(server.pid) and masters(server.home) == {server.pid}


# ---- signals in every phase

SLOW = 'import time\nopen("importing", "w").close()\ntime.sleep(60)\n' + APP


def test_a_server_that_is_told_to_stop_while_it_imports_ends_at_once_and_leaves_nobody(real):
    config = CONFIG.replace("@MORE@", "").replace("@WORKERS@", "2")
    for first, second in ((signal.SIGTERM, None), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGHUP)):
        server = real.fairlead(config=config, files={"shop.py": SLOW}, wait=False)
        eventually(lambda home=server.home: (home / "importing").exists(), what="the import")
        workers = worker_pids(server.pid)
        server.signal(first)
        if second is not None:
            server.signal(second)
        server.wait()
        assert not any(alive(pid) for pid in workers)
        assert not (server.home / "web.sock").exists()


def test_signals_while_a_reload_is_on_its_way_are_answered_in_turn(real):
    server = serve(real, workers=2)
    before = worker_pids(server.pid)
    (server.home / "shop.py").write_text(SLOW.replace("sleep(60)", "sleep(1)"))
    server.signal(signal.SIGHUP)
    eventually(lambda: (server.home / "importing").exists(), what="the new worker's import")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        server.signal(number)
    assert real.curl(server.url + "/").status == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not any(alive(pid) for pid in before) and not masters(server.home)


def test_a_stop_while_draining_for_a_reload_and_one_while_stopping(real):
    server = serve(real)
    with socket.create_connection(("127.0.0.1", server.port)) as held:
        held.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        server.signal(signal.SIGHUP)
        server.says("reload: new workers serve")
        server.signal(signal.SIGTERM)
        server.says("finishing what is open")
        (server.home / "go").touch()
        assert b" 200 OK" in held.recv(4096), "the old worker still answers what it was asked"
        server.signal(signal.SIGTERM)
        server.wait()
    assert not masters(server.home)


def test_a_worker_that_ignores_every_signal_is_killed_in_the_end(real):
    deaf = "import signal\nfor number in (1, 2, 3, 10, 12, 15):\n    signal.signal(number, signal.SIG_IGN)\n" + APP
    config = CONFIG.replace("@MORE@", "").replace("@WORKERS@", "1").replace("5s", "100ms")
    server = real.fairlead(config=config, files={"shop.py": deaf})
    server.says("Ctrl-C")
    (pid,) = worker_pids(server.pid)
    with ask(server, "/block"):
        server.says("has stood still")
        server.signal(signal.SIGTERM)
        server.says("did not end in time and is killed")
        server.wait()
    assert not alive(pid)


def test_a_worker_signalled_by_name_leaves_or_stays_as_it_should(real):
    server = serve(real)
    (pid,) = worker_pids(server.pid)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    assert real.curl(server.url + "/").status == 200
    assert worker_pids(server.pid) == [pid]
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: worker_pids(server.pid) not in ([], [pid]), what="a replacement")
    assert real.curl(server.url + "/").status == 200
