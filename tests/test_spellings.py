"""run.spellings: command lines of other servers, and what they become here."""

import re
from pathlib import Path

import pytest

from fairlead.core.errors import ConfigError
from fairlead.run.cli import parser
from fairlead.run.serving import from_flags, loader
from fairlead.run.spellings import SAME, binds
from fairlead.run.unequal import ALREADY, OTHERWISE


def configured(line):
    args = parser("run").parse_args(["run", *line.split()])
    args.bind = binds(args)
    return from_flags(args)


def tls(tmp_path):
    (tmp_path / "c.pem").write_text("")
    (tmp_path / "k.pem").write_text("")
    return tmp_path / "c.pem", tmp_path / "k.pem"


def test_a_uvicorn_command_line():
    config = configured(
        "shop.main:app --host 0.0.0.0 --port 9000 --workers 3 --backlog 99 --timeout-keep-alive 7 --log-level critical "
        "--timeout-graceful-shutdown 20 --limit-concurrency 50 --limit-max-requests 1000 --no-access-log --lifespan off "
        "--forwarded-allow-ips 10.0.0.1,10.1.0.0/16 --app-dir src --loop asyncio"
    )
    server, listener, [route] = config.server, config.listeners[0], config.routes
    assert [str(one) for one in listener.bind] == ["0.0.0.0:9000"]
    assert (server.workers, server.backlog, server.grace, server.loop) == (3, 99, 20.0, "asyncio")
    assert (server.limits.requests, server.max_requests) == (50, 1000)
    assert (listener.limits.idle, config.log.level, config.log.access) == (7.0, "error", "off")
    assert [str(one) for one in listener.forwarded] == ["10.0.0.1/32", "10.1.0.0/16"]
    assert (route.app.target, route.app.dir, route.app.lifespan) == ("shop.main:app", "src", "off")


def test_a_gunicorn_command_line(tmp_path):
    certificate, key = tls(tmp_path)
    config = configured(
        f"shop.wsgi:application -b 127.0.0.1:9001 -b unix:/run/x.sock -w 2 -k gthread --threads 8 --max-requests 500 "
        f"--graceful-timeout 15 --keep-alive 3 --access-logfile - --certfile {certificate} --keyfile {key} --chdir app"
    )
    listener, [route] = config.listeners[0], config.routes
    assert [str(one) for one in listener.bind] == ["127.0.0.1:9001", "unix:/run/x.sock"]
    assert (route.app.interface, route.app.threads, route.app.dir) == ("wsgi", 8, "app")
    assert (listener.tls.certificate, listener.tls.key) == (str(certificate), str(key))
    assert (config.server.max_requests, config.server.grace, config.log.access) == (500, 15.0, "-")


def test_a_granian_command_line(tmp_path):
    certificate, key = tls(tmp_path)
    config = configured(
        f"--interface asgi shop:app --host ::1 --port 9002 --workers 2 --blocking-threads 4 --workers-lifetime 3600 "
        f"--ssl-certificate {certificate} --ssl-keyfile {key} --working-dir app --factory"
    )
    assert [str(one) for one in config.listeners[0].bind] == ["[::1]:9002"]
    assert config.server.max_age == 3600.0 and config.routes[0].app.threads == 4 and config.routes[0].app.factory


def flags_of(server):
    """Every flag that the server's own help names."""
    page = (Path(__file__).resolve().parent / "data" / "flags.txt").read_text(encoding="utf-8")
    return next(line.split()[2:] for line in page.splitlines() if line.startswith(server))


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "granian"])
def test_every_flag_of_the_others_is_understood_or_refused_with_what_to_write(server):
    [run] = [action.choices["run"] for action in parser("run")._subparsers._group_actions]
    known = {*run._option_string_actions, "--version", "-v"}  # the version is the command's own
    flags = flags_of(server)
    assert len(flags) > 40
    assert [flag for flag in flags if flag not in known] == []


def test_more_flags_of_the_others():
    config = configured(
        "shop:app --ws auto --http h11 --proxy-headers --date-header --reset-contextvars --ws-max-size 1000 "
        "--ws-ping-interval 5 --ws-ping-timeout 6 --ws-per-message-deflate false --h11-max-incomplete-event-size 9000 "
        "--reload-dir src --reload-dir lib --pid run.pid --statsd-host 127.0.0.1:8125 --uds-permissions 0o660 "
        "--limit-request-line 5000 --limit-request-fields 50 --http1-header-read-timeout 3000 --workers-max-rss 300 "
        "--http2-max-concurrent-streams 7 --proxy-allow-from 10.0.0.1 --log-file server.log -u www-data"
    )
    server, listener, [route] = config.server, config.listeners[0], config.routes
    socket = route.websocket
    assert (socket.message, socket.ping, socket.pong, socket.compression) == (1000, 5.0, 6.0, "off")
    assert (server.pid_file, server.user, server.max_memory) == ("run.pid", "www-data", 300 << 20)
    assert list(server.reload_dirs) == ["src", "lib"]
    limits = listener.limits
    assert (limits.head, limits.line, limits.headers, limits.header, limits.streams) == (9000, 5000, 50, 3.0, 7)
    assert (listener.socket.permissions, config.metrics.statsd, config.log.file) == (
        "660",
        "127.0.0.1:8125",
        "server.log",
    )
    assert [str(one) for one in listener.proxy_protocol] == ["10.0.0.1/32"]
    assert configured("shop:app --reuse-port --workers 2").server.pattern == "reuseport"


@pytest.mark.parametrize("line", ["shop:app --ws none", "shop:app --http 3", "shop:app --ssl-cert-reqs 0"])
def test_a_value_that_asks_for_something_else_is_refused(line):
    with pytest.raises(ConfigError, match=line.split()[2 if "cert" in line else 1]):
        configured(line)


def test_no_flag_is_in_two_tables():
    same = [name for one in SAME for name in one.names]
    assert (
        len(same) == len(set(same)) and not set(same) & {*OTHERWISE, *ALREADY} and not OTHERWISE.keys() & ALREADY.keys()
    )


@pytest.mark.parametrize("name", sorted(OTHERWISE))
def test_what_has_no_equal_says_what_to_write(name):
    with pytest.raises(ConfigError) as caught:
        configured(f"shop:app {name} x")
    assert name in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    "line, said",
    [
        ("shop:app --backlog many", "--backlog many is not a number"),
        ("shop:app -k tornado", "tornado"),
        ("shop:app --timeout-keep-alive soon", "soon"),
    ],
)
def test_a_value_that_is_none_is_named(line, said):
    with pytest.raises(ConfigError, match=said):
        configured(line)


def test_a_file_takes_only_flags_that_belong_to_the_server(tmp_path):
    file = tmp_path / "fairlead.toml"
    file.write_text('[[listener]]\nbind = "127.0.0.1:0"\n[[route]]\nrespond = "x"\n')
    args = parser("run").parse_args(["run", str(file), "--backlog", "7"])
    args.bind = []
    assert loader(args)().server.backlog == 7
    args = parser("run").parse_args(["run", str(file), "--timeout-keep-alive", "7"])
    args.bind = []
    with pytest.raises(ConfigError, match=r"limits\.idle"):
        loader(args)()


def test_every_spelling_sets_a_setting_that_exists():
    from fairlead.run import config as c
    from fairlead.run.setting import settings

    tops = {
        "server": c.Server, "log": c.Log, "metrics": c.Metrics, "listener": c.Listener, "app": c.App, "websocket": c.WebSocket,
    }  # fmt: skip
    for one in SAME:
        top, *names = one.path.split(".")
        table = tops[top]
        for name in names:
            found = {key: setting for _, setting, key in settings(table)}
            assert name in found, one.path
            table = found[name].table


def migrations():
    """(before, now) of the guide's table."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "guide" / "migrating.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `((?:uvicorn|gunicorn|granian) [^`]*)` \| `fairlead run ([^`]*)` \|$", page, re.M)


@pytest.mark.parametrize("before, now", migrations())
def test_the_lines_of_the_guide_are_understood_as_they_stand(before, now):
    assert before.partition(" ")[2] == now
    config = configured(now)
    assert config.routes[0].app.target in now and config.listeners[0].bind


def test_the_guide_shows_lines_of_all_three():
    assert len(migrations()) >= 10
    assert {before.split()[0] for before, _ in migrations()} == {"uvicorn", "gunicorn", "granian"}


def test_the_next_free_port_is_taken_only_when_asked_for():
    import socket

    from fairlead.run.serving import free_ports

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        [bind] = free_ports([f"127.0.0.1:{port}"])
        assert port < int(bind.rpartition(":")[2]) < port + 100
        assert configured(f"shop:app --bind 127.0.0.1:{port}").listeners[0].bind[0].port == port
    assert free_ports(["unix:/run/x.sock", "127.0.0.1:0"]) == ["unix:/run/x.sock", "127.0.0.1:0"]
    with pytest.raises(ConfigError):
        free_ports(["nonsense"])
