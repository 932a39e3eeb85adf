"""The process with real processes: start, replace, reload, drain, and what happens when something is missing."""

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

from clients import Load, alive, under_load, worker_pids
from peers import surroundings
from processes import Process, accepts, eventually, free_port

APP = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    body = b"one " + str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
FILES = {"shop.py": APP}
CONFIG = """
[server]
workers = 2
grace = "5s"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
[[route]]
path = "/fixed"
respond = "before"
[[route]]
path = "/*"
app = "shop:app"
"""


def started(real, *args: str, config: str | None = None, files: dict[str, str] | None = None, **options) -> Process:
    """Our server with the shop, its workers up."""
    words = () if config else ("shop:app", "--access-log", "off", "--page", "off", "--workers", "2")
    server = real.fairlead(*words, *args, config=config, files=files or FILES, **options)
    server.says("Ctrl-C")
    return server


# ---- life and death


def test_a_killed_worker_is_replaced_and_the_others_serve_on(real):
    server = started(real)
    before = worker_pids(server.pid)
    assert len(before) == 2
    with under_load(server.port) as load:
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(set(worker_pids(server.pid)) - {before[0]}) == 2, what="a replacement")
        load.answered(50)
    assert before[1] in worker_pids(server.pid)
    lost = [one for one in load.failures if "connect" in one]
    assert not lost, lost
    server.says("gone: killed by SIGKILL")


def test_sigterm_under_load_finishes_what_was_asked(real):
    server = started(real)
    pids = worker_pids(server.pid)
    load = Load(server.port, "/slow", kept=8, fresh=0)
    load.start()
    load.answered(8)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    load.over = True
    load.join(20)
    assert not [one for one in load.failures if "connect" not in one], load.failures
    assert not any(alive(pid) for pid in pids)


def test_a_second_ctrl_c_stops_at_once(real):
    server = started(real, files={"shop.py": APP.replace("0.5", "60")})
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: queue_is_empty(server.port), what="the request was taken")
        server.signal(signal.SIGINT)
        server.says("once more to stop at once")
        assert server.running
        server.signal(signal.SIGINT)
        server.wait()
    assert not accepts(server.port)


def queue_is_empty(port: int) -> bool:
    """Nothing received on this port's connections waits for its reader."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(row[4].endswith(":00000000") for row in rows if row[1].endswith(f":{port:04X}"))


def test_workers_do_not_outlive_a_killed_master(real):
    server = started(real)
    pids = worker_pids(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids), what="the workers are gone")


def test_a_worker_stuck_in_the_application_is_killed_after_the_grace(real):
    stuck = APP.replace("await asyncio.sleep(0.5)", "import time; time.sleep(60)")
    server = started(real, config=CONFIG.replace("5s", "1s"), files={"shop.py": stuck})
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: queue_is_empty(server.port), what="the request was taken")
        pids = worker_pids(server.pid)
        server.signal(signal.SIGTERM)
        server.wait()
    assert not any(alive(pid) for pid in pids)


# ---- reload


def test_a_hangup_makes_new_workers_and_loses_no_request(real):
    server = started(real, config=CONFIG)
    before = worker_pids(server.pid)
    with under_load(server.port) as load:
        server.signal(signal.SIGHUP)
        server.says("reload: new workers serve")
        eventually(lambda: not any(alive(pid) for pid in before), what="the old workers are gone")
        load.answered(50)
    assert not load.failures, load.failures
    assert len(worker_pids(server.pid)) == 2


def test_a_reload_with_an_error_leaves_everything_as_it_was(real):
    server = started(real, config=CONFIG)
    before = worker_pids(server.pid)
    file = server.home / "fairlead.toml"
    file.write_text(file.read_text().replace("[log]", "[lug]"))
    server.signal(signal.SIGHUP)
    server.says("lug")
    assert real.curl(server.url + "/").status == 200
    assert worker_pids(server.pid) == before


def test_a_reload_whose_application_does_not_import_keeps_the_old_workers(real):
    server = started(real, config=CONFIG)
    before = worker_pids(server.pid)
    (server.home / "shop.py").write_text("1/0\n")
    server.signal(signal.SIGHUP)
    server.says("ZeroDivisionError")
    assert real.curl(server.url + "/").status == 200
    eventually(lambda: sorted(worker_pids(server.pid)) == sorted(before), what="only the old workers")


def test_changed_code_is_served_after_reload_on_change(real):
    server = started(real, "--reload")
    (server.home / "shop.py").write_text(APP.replace("one ", "two "))
    eventually(lambda: real.curl(server.url + "/").text.startswith("two"), what="the new code")


def test_reload_on_change_shows_a_syntax_error_and_waits_it_out(real):
    server = started(real, "--reload")
    (server.home / "shop.py").write_text(APP + "\ndef broken(:\n")
    line = APP.count("\n") + 2
    eventually(lambda: "SyntaxError" in server.text(), what="the error")
    assert f"(shop.py, line {line})" in server.text() and "the old code goes on" in server.text()
    assert real.curl(server.url + "/").text.startswith("one")  # what ran goes on
    (server.home / "shop.py").write_text(APP.replace("one ", "three "))
    eventually(lambda: real.curl(server.url + "/").text.startswith("three"), what="the corrected code")


# ---- what is missing or wrong


def test_a_taken_port_names_who_has_it(real):
    server = started(real)
    second = real.fairlead("shop:app", "--page", "off", files=FILES, port=server.port, wait=False)
    assert second.wait() == 1
    line = second.text().strip()
    assert "taken by" in line and f"pid {server.pid}" in line and "\n" not in line


def test_an_application_that_does_not_import_ends_with_its_traceback_and_one_line(real):
    broken = real.fairlead(
        "shop:app", files={"shop.py": "import json\n\n\ndef f():\n    return 1 / 0\n\n\nf()\n"}, wait=False
    )
    assert broken.wait() == 1
    text = broken.text()
    assert "return 1 / 0" in text and "importlib" not in text
    assert (
        text.strip().splitlines()[-1].startswith("fairlead: ") and "ZeroDivisionError" in text.strip().splitlines()[-1]
    )


def test_a_missing_module_and_a_missing_attribute_say_so(real):
    missing = real.fairlead("shap:app", files=FILES, wait=False)
    assert missing.wait() == 1 and 'did you mean "shop"' in missing.text()
    attribute = real.fairlead("shop:ap", files=FILES, wait=False)
    assert attribute.wait() == 1 and 'did you mean "app"' in attribute.text()


def test_a_wrong_configuration_names_file_and_line_and_exits_with_two(real):
    wrong = real.fairlead(config=CONFIG.replace("workers = 2", "wrokers = 2"), files=FILES, wait=False)
    assert wrong.wait() == 2
    assert "fairlead.toml:3" in wrong.text() and "workers" in wrong.text()


def test_what_this_version_does_not_serve_is_refused_with_its_line(real):
    unserved = CONFIG.replace('name = "web"', 'name = "web"\nsocket = { cork = true }')
    wrong = real.fairlead(config=unserved, files=FILES, wait=False)
    assert wrong.wait() == 2
    assert re.search(r"fairlead\.toml:\d+: .*not in this version", wrong.text()), wrong.text()


def test_a_missing_certificate_is_one_line_that_names_the_file(real):
    tls = CONFIG.replace('name = "web"', 'name = "web"\ntls = { certificate = "none.pem", key = "none.key" }')
    wrong = real.fairlead(config=tls, files=FILES, wait=False)
    assert wrong.wait() in (1, 2)
    assert "none.pem" in wrong.text() and "Traceback" not in wrong.text()


def test_a_stale_unix_socket_is_replaced_and_removed_at_the_end(real):
    home = real.home()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "web.sock"))
    port = free_port()
    config = CONFIG.replace('"127.0.0.1:@PORT@"', '["127.0.0.1:@PORT@", "unix:web.sock"]')
    server = started(real, config=config, home=home, port=port)
    answer = real.curl("http://x/fixed", "--unix-socket", str(home / "web.sock"))
    assert answer.text == "before"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not (home / "web.sock").exists()


def test_no_descriptors_left_pauses_accepting_and_recovers(real):
    home = real.home()
    port = free_port()
    (home / "shop.py").write_text(APP)
    words = f"run shop:app --bind 127.0.0.1:{port} --pattern single --page off --access-log off"
    script = f"ulimit -n 64; exec {sys.executable} -m fairlead {words}"
    server = real.run("bash", "-c", script, home=home, env=surroundings(home), port=port).ready()
    server.says("Ctrl-C")
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    server.says("cannot accept")
    (pid,) = worker_pids(server.pid)
    spent = cpu_ticks(pid)
    eventually(lambda: server.text().count("cannot accept") >= 3, what="it goes on trying")
    assert cpu_ticks(pid) - spent < 40, "it spins"
    for sock in held:
        sock.close()
    eventually(lambda: real.curl(server.url + "/").status == 200, what="it recovers")


def cpu_ticks(pid: int) -> int:
    """utime + stime of a process."""
    part = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(part[11]) + int(part[12])


# ---- commands for a running server


def test_reload_and_drain_by_command_say_what_they_did(real):
    server = started(real, config=CONFIG)
    before = sorted(worker_pids(server.pid))
    file = server.home / "fairlead.toml"
    file.write_text(file.read_text().replace('"before"', '"after"'))
    swapped = real.command("reload", home=server.home)
    assert swapped.returncode == 0 and "living workers (routes)" in swapped.stdout, swapped
    assert real.curl(server.url + "/fixed").text == "after"
    assert sorted(worker_pids(server.pid)) == before
    (server.home / "shop.py").write_text(APP.replace("one ", "two "))
    code = real.command("reload", home=server.home)
    assert code.returncode == 0 and "new workers serve" in code.stdout and "code" in code.stdout, code
    assert real.curl(server.url + "/").text.startswith("two")
    file.write_text("[server")
    wrong = real.command("reload", home=server.home)
    assert wrong.returncode == 1 and "fairlead.toml:1" in wrong.stderr and "nothing was changed" in wrong.stderr
    drained = real.command("drain", home=server.home)
    assert drained.returncode == 0 and "every request was finished" in drained.stdout, drained
    assert server.wait() == 0


def test_a_reload_that_comes_while_the_server_starts_waits_for_that(real):
    slow = "import pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.02)\n" + APP
    server = real.fairlead(config=CONFIG, files={"shop.py": slow}, wait=False)
    eventually(lambda: "starting" in real.command("status", home=server.home).stdout, what="a server that starts")
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(60)
        admin.connect(str(next(server.home.glob("fairlead-*.sock"))))
        admin.sendall(b"POST /api/reload?workers=1 HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        (server.home / "go").touch()
        answer = b"".join(iter(lambda: admin.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b"new workers serve" in answer, answer


def test_a_swap_under_load_loses_no_request(real):
    server = started(real, config=CONFIG)
    file = server.home / "fairlead.toml"
    with under_load(server.port, path="/fixed") as load:
        for number in range(3):
            file.write_text(re.sub(r'respond = ".*"', f'respond = "{number}"', file.read_text()))
            assert real.command("reload", home=server.home).returncode == 0
            load.answered(20)  # more than were on their way
    assert not load.failures, load.failures
    assert load.bodies == {b"before", b"0", b"1", b"2"}


def test_status_finds_the_server_and_why_finds_the_request(real):
    server = started(real, config=CONFIG.replace('access = "off"', 'access = "access.log"'))
    assert real.curl(server.url + "/slow").status == 200
    shown = real.command("status", home=server.home, env={"FAIRLEAD_ADMIN": ""})  # it, and whatever else runs on this machine
    assert shown.returncode == 0 and f"pid {server.pid}, ready" in shown.stdout, shown
    assert json.loads(real.command("status", "--json", home=server.home).stdout)["workers"]
    log = server.home / "access.log"
    eventually(lambda: log.exists() and "/slow" in log.read_text(), what="the access log")
    ident = re.search(r"/slow.* id=(\S+)", log.read_text())[1]
    why = real.command("why", ident, home=server.home)
    assert why.returncode == 0 and "process" in why.stdout, why
    assert real.command("why", "no-such-request", home=server.home).returncode == 1


def test_a_worker_is_replaced_after_its_requests(real):
    server = started(real, config=CONFIG.replace('grace = "5s"', 'grace = "5s"\nmax_requests = 50'))
    before = set(worker_pids(server.pid))
    with under_load(server.port) as load:
        eventually(lambda: not before & set(worker_pids(server.pid)), what="both workers are new")
    assert not load.failures, load.failures


def test_probes_are_answered_and_the_page_changes_nothing_without_its_token(real):
    port = free_port()
    server = started(real, config=f'[admin]\npage = "127.0.0.1:{port}"\n' + CONFIG)
    page = f"http://127.0.0.1:{port}"
    assert real.curl(page + "/readyz").status == real.curl(page + "/livez").status == 200
    assert real.curl(page + "/api/drain", "-X", "POST").status == 403
    assert server.running
    token = server.says(r"token (\S+)\)")[1]
    assert real.curl(page + "/api/drain", "-X", "POST", "-H", f"Authorization: Bearer {token}").status == 200
    assert server.wait() == 0


def test_the_demo_serves_everything_it_names_and_stops_by_itself(real):
    home = real.home()
    demo = real.run(sys.executable, "-m", "fairlead", "demo", "--seconds", "8", home=home, env=surroundings(home))
    shop = demo.says(r"https://localhost:(\d+)/ ")[1]
    for path in ("/items", "/hello", "/report"):
        assert real.curl(f"https://localhost:{shop}{path}", "-k").status == 200
    eventually(
        lambda: real.curl(f"https://localhost:{shop}/stock/1", "-k").status == 200, what="the proxied application"
    )
    assert "sql;dur=" in real.curl(f"https://localhost:{shop}/items", "-k").header("server-timing")
    assert "pipeline.js" in real.curl(f"https://localhost:{shop}/pipeline/", "-k").text
    assert real.curl(f"https://localhost:{shop}/pipeline/files/a.txt", "-k", "-X", "PUT", "-d", "hello").status == 202
    assert "room.js" in real.curl(f"https://localhost:{shop}/chat/", "-k").text
    assert "watched in four ways" in real.curl(f"https://localhost:{shop}/reports/", "-k").text
    assert "function longPoll" in real.curl(f"https://localhost:{shop}/reports/reports.js", "-k").text
    asked = ("-k", "-H", "content-type: application/json", "-H", "prefer: wait=20")
    report = real.curl(f"https://localhost:{shop}/jobs/reports", *asked, "-d", '{"month": "May", "pause": 0, "luck": 1}')
    assert report.status == 200 and '"pages": 20' in report.text
    assert real.curl(demo.says(r"(http://127\.0\.0\.1:\d+/) ")[1] + "api/requests").status == 200
    assert demo.wait(60) == 0
