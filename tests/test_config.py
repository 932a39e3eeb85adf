"""The configuration file: what it means, what is refused, and that every refusal names its place."""
# ruff: noqa: E501 (a case is a line)

from __future__ import annotations

import dataclasses
import pickle
import random
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from fairlead.core.errors import ConfigError
from fairlead.core.limits import Limits as CoreLimits
from fairlead.run import config as c
from fairlead.run import units as u
from fairlead.run.answers import FILTERS
from fairlead.run.load import config_from_args, examine, examine_text, load, loads, variables
from fairlead.run.setting import settings
from fairlead.serve.filters import coding

FULL = Path(__file__).parent.parent / "examples" / "full.toml"
HEAD = '[[listener]]\nbind = "127.0.0.1:8000"\n'
ROUTE = HEAD + "[[route]]\nrespond = 200\n"


def problems(text, severity="error", **more):
    return [problem for problem in examine_text(text, "t.toml", env={}, **more)[1] if problem.severity == severity]


def only(text, severity="error", **more):
    found = problems(text, severity, **more)
    assert len(found) == 1, found
    return found[0]


# ---- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1h", 3600),
        ("0s", 0),
        ("1.5s", 1.5),
        ("24h", 86400),
        ("50us", 5e-5),
        ("1d 2h", 93600),
    ],
)
def test_a_duration_is_written_with_its_unit(text, seconds):
    assert u.read_duration(text) == pytest.approx(seconds)
    assert u.read_duration(u.show_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (10, '"10s"'),
        (0.5, '"0.5s"'),
        ("10", "unit"),
        ("", "unit"),
        ("10 bananas", "unit"),
        ("-1s", "unit"),
        (True, "unit"),
        ("9999999d", "longest"),
    ],
)
def test_a_wrong_duration_is_told_what_to_write(value, hint):
    with pytest.raises(u.BadValue) as caught:
        u.read_duration(value)
    assert hint in caught.value.hint


def test_durations_are_shown_as_people_write_them():
    assert [u.show_duration(s) for s in (75, 60, 600, 86400, 3600, 0.25, 1, 0, 2 * 86400)] == [
        "75s",
        "60s",
        "10m",
        "24h",
        "1h",
        "250ms",
        "1s",
        "0s",
        "2d",
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65536), ("1MB", 10**6), ("512B", 512), ("1.5GiB", 3 * 2**29), ("2 MiB", 2**21)]
)
def test_a_size_is_written_with_its_unit(text, size):
    assert u.read_size(text) == size
    assert u.read_size(u.show_size(size)) == size


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (10, '"10B"'),
        ("64k", "64kB"),
        ("64kib", "64KiB"),
        ("1X", "units are"),
        ("x", "unit"),
        ("9" * 30 + "B", "largest"),
    ],
)
def test_a_wrong_size_is_told_what_to_write(value, hint):
    with pytest.raises(u.BadValue) as caught:
        u.read_size(value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("240B/s", u.Rate(240, "B")),
        ("100/s per client", u.Rate(100, "", 1, "client")),
        ("5KiB/s", u.Rate(5120, "B")),
        ("10/min", u.Rate(10, "", 60)),
    ],
)
def test_a_rate_has_an_amount_a_period_and_maybe_a_scope(text, rate):
    assert u.read_rate(text) == rate
    assert u.read_rate(str(rate)) == rate


@pytest.mark.parametrize("value", [10, "10", "10/fortnight", "10/s per cat", "/s", "10X/s"])
def test_a_wrong_rate_is_refused(value):
    with pytest.raises(u.BadValue) as caught:
        u.read_rate(value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", u.Address("127.0.0.1", 80)),
        ("[::]:8443", u.Address("::", 8443)),
        ("[0:0::1]:1", u.Address("::1", 1)),
        ("unix:/run/x.sock", u.Address("", 0, "/run/x.sock")),
        ("shop.example:0", u.Address("shop.example", 0)),
        ("*:80", u.Address("0.0.0.0", 80)),
    ],
)
def test_an_address_is_host_and_port_or_a_unix_path(text, address):
    assert u.read_address(text) == address
    assert u.read_address(str(address)) == address


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("8000", '"127.0.0.1:8000"'),
        (8000, '"127.0.0.1:8000"'),
        (":8000", '"0.0.0.0:8000"'),
        ("localhost", '"localhost:8000"'),
        ("::1:80", '"[::1]:8000"'),
        ("[::g]:80", "[::1]"),
        ("1.2.3:80", "127.0.0.1"),
        ("a:99999", "127.0.0.1"),
        ("unix:", "unix:/run"),
        ("a b:80", "name.example"),
        ("a:٣", "a:8000"),
    ],
)
def test_a_wrong_address_is_told_what_to_write(value, hint):
    with pytest.raises(u.BadValue) as caught:
        u.read_address(value)
    assert hint in caught.value.hint


def test_secrets_stay_outside_the_file(tmp_path, monkeypatch):
    (tmp_path / "s").write_text("hush\n")
    monkeypatch.setenv("THE_SECRET", "quiet")
    assert u.read_secret("env:THE_SECRET").value() == "quiet"
    assert u.read_secret(f"file:{tmp_path}/s").value() == "hush"
    for bad in ("hush", "env:", 3):
        with pytest.raises(u.BadValue):
            u.read_secret(bad)
    for missing in ("env:NO_SUCH_SECRET", "file:/no/such"):
        with pytest.raises(u.BadValue):
            u.read_secret(missing).value()


# ---- the file -------------------------------------------------------------------------------------------------------


def test_the_full_example_reads_without_a_problem():
    config, found = examine(str(FULL), env={})
    assert found == []
    assert [listener.kind for listener in config.listeners] == [
        "http",
        "http",
        "tcp",
        "tcp",
        "udp",
        "turn",
        "forward",
        "socks5",
    ]
    assert {route.answer for route in config.routes} == set(c.ANSWERS)
    app = config.routes[1]
    assert [one.name for one in app.filters] == ["jwt", "ratelimit", "idempotency", "compress"]
    assert app.filters[1].options.rate == u.Rate(100, "", 1, "client")
    assert config.routes[2].wsgi.interface == "wsgi"
    assert config.routes[11].proxy.split == {"web": 95, "web-next": 5}
    assert [one.name for one in config.routes[11].filters] == ["networks", "cors"]
    web = config.upstreams[0]
    assert [(str(target.address), target.weight) for target in web.servers] == [
        ("10.0.0.1:8080", 1),
        ("10.0.0.2:8080", 2),
        ("unix:/run/app.sock", 1),
    ]
    assert (web.eject.for_, web.eject.most, web.health.path) == (30.0, 0.5, "/healthz")


@pytest.mark.parametrize("workers, pattern", [(1, "single"), (2, "shared"), (8, "shared"), (9, "reuseport")])
def test_auto_chooses_the_pattern_by_the_number_of_workers_and_says_why(workers, pattern):
    server = c.Server(workers=workers)
    assert server.chosen_pattern == pattern and server.worker_count == workers
    assert server.auto_pattern[1]
    assert c.Server(workers=workers, pattern="handoff").chosen_pattern == "handoff"


def test_the_defaults_are_those_of_the_design():
    config = loads(ROUTE)
    limits = config.listeners[0].limits
    assert (limits.header, limits.body_idle, limits.idle, limits.max_body, limits.streams) == (10, 30, 75, None, 100)
    assert limits.body_rate == u.Rate(240, "B")
    server = config.server
    assert (server.pattern, server.unit, server.backlog, server.grace) == ("auto", "process", 4096, 10)
    assert (server.limits.queue, server.limits.queue_wait, server.limits.idle, server.limits.requests) == (
        1000,
        1,
        100000,
        None,
    )
    assert config.admin.page is None
    assert all(address.is_loopback for listener in config.listeners for address in listener.bind)


def test_listener_limits_are_those_of_the_codecs():
    assert c.Limits().core() == CoreLimits()
    limits = (
        loads(
            HEAD
            + 'limits = { header = "3s", max_body = "1MB", body_rate = "none", idle = "none" }\n[[route]]\nrespond = 200\n'
        )
        .listeners[0]
        .limits
    )
    core = limits.core()
    assert (core.header, core.body, core.body_rate, core.idle) == (3_000_000_000, 1_000_000, 0, 0)


def test_tables_may_be_inline_or_sub_tables():
    inline = loads(
        HEAD
        + 'tls = { mode = "dev" }\n[[route]]\nproxy = { upstream = "u" }\n[[upstream]]\nname = "u"\nservers = ["a:1"]\n'
    )
    nested = loads(
        HEAD
        + '[listener.tls]\nmode = "dev"\n[[route]]\n[route.proxy]\nupstream = "u"\n[[upstream]]\nname = "u"\n[[upstream.servers]]\naddress = "a:1"\n'
    )
    assert inline == nested


def test_short_forms_mean_their_tables():
    text = (
        HEAD
        + 'tls = "dev"\n[[route]]\npath = "/a"\napp = "m:a"\n[[route]]\npath = "/p"\nproxy = "u"\n[[route]]\npath = "/r"\nredirect = "/x"\n'
    )
    text += '[[route]]\npath = "/t"\nrespond = "hi"\n[[route]]\npath = "/n"\nrespond = 404\n[[upstream]]\nname = "u"\nservers = "a:1"\ntls = true\n'
    config = loads(text)
    assert str(config.upstreams[0].servers[0].address) == "a:1"
    app, proxy, redirect, body, status = config.routes
    assert (app.app.target, proxy.proxy.upstream, redirect.redirect.to, body.respond.body, status.respond.status) == (
        "m:a",
        "u",
        "/x",
        "hi",
        404,
    )
    assert config.listeners[0].tls.mode == "dev"
    assert config.upstreams[0].tls.verify


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    (tmp_path / "f.toml").write_text(
        ROUTE
        + '[[route]]\npath = "/a"\napp = { target = "m:a", env = "file:.env" }\n[[route]]\nfiles = "www"\n[log]\naccess = "a.log"\n'
    )
    config = load(str(tmp_path / "f.toml"), env={"FAIRLEAD_LOG_FILE": "e.log"})
    assert config.routes[1].app.dir == str(tmp_path)
    assert config.routes[1].app.env == str(tmp_path / ".env")
    assert config.routes[2].files.dir == str(tmp_path / "www")
    assert (config.log.access, config.log.file) == (str(tmp_path / "a.log"), "e.log")


@pytest.mark.parametrize(
    ("text", "line", "key", "says", "hint"),
    [
        ("[server]\n\nworkrs = 2\n", 3, "server.workrs", "unknown", "did you mean workers?"),
        ("[servr]\n", 1, "servr", "unknown", "did you mean server?"),
        ("[[routes]]\n", 1, "routes", "unknown", "did you mean route?"),
        ("[server]\ngrace = 10\n", 2, "server.grace", "bare number, 10", '"10s"'),
        ('[server]\nworkers = "2"\n', 2, "server.workers", 'a string, "2"', "write 2 without quotes"),
        ("[server]\nworkers = 0\n", 2, "server.workers", "is 0", "from 1"),
        ("[server]\nworkers = 2.5\n", 2, "server.workers", "a number, 2.5", "whole number"),
        ('[server]\naffinity = "yes"\n', 2, "server.affinity", "string", "write true without quotes"),
        ('[server]\npattern = "reuse-port"\n', 2, "server.pattern", "unknown", 'did you mean "reuseport"?'),
        ('[server]\nlimits = { queue = 1, memory = "1k" }\n', 2, "server.limits.memory", "unknown unit", '"1kB"'),
        ("server = 3\n", 1, "server", "is a number, 3", "write a table"),
        ('[log]\nlevel = ["info"]\n', 2, "log.level", "an array", '"info"'),
        ("[journey]\nsample = 0.5\n", 2, "journey.sample", "bare number", '"20%"'),
        ('[store]\nurl = "mysql://x"\n', 2, "store.url", "not a store URL", "sqlite:"),
        ("[log]\nbuffer = nan\n", 2, "log.buffer", "nan", "unit"),
    ],
)
def test_a_wrong_value_names_its_line_its_key_and_what_is_right(text, line, key, says, hint):
    top = text.startswith("server")
    problem = only(text + ROUTE if top else ROUTE + text)
    assert problem.file == "t.toml"
    assert problem.line == line + (0 if top else ROUTE.count("\n"))
    assert problem.key == key
    assert says in problem.message
    assert hint in problem.hint
    assert str(problem).startswith(f"t.toml:{problem.line}: {key}: ")


def test_all_errors_are_told_at_once_in_file_order():
    text = '[server]\ngrace = 1\nworkrs = 2\n[[listener]]\nbind = "80"\n[[route]]\nlimits = 1\napp = "x"\nredirect = "/y"\n[[upstream]]\n'
    found = problems(text)
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    keys = {problem.key for problem in found}
    assert keys >= {
        "server.grace",
        "server.workrs",
        "listener[0].bind",
        "route[0].limits",
        "route[0].app.target",
        "upstream[0]",
    }
    with pytest.raises(ConfigError) as caught:
        loads(text, "t.toml")
    assert len(caught.value.problems) == len(found)
    assert str(caught.value).count("\n") == len(found) - 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = ", 1),
        ("\n\n[a\n", 3),
        ("a = 1\na = 2\n", 2),
        ('x = "abc\n', 1),
        ("[a]\nb = { c = 1,\n d = 2 }\n", 2),
        ("a = [1,\n2", 2),
    ],
)
def test_a_syntax_error_keeps_its_line(text, line):
    problem = only(text)
    assert (problem.line, problem.message.startswith("not TOML")) == (line, True)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = 1" + "0" * 5000,
        "a." * 3000 + "b = 1",
        "x = 0x" + "F" * 6000,
        "[server]\nworkers = 0x" + "F" * 6000,
    ],
)
def test_absurd_toml_is_an_error_and_no_crash(text):
    assert problems(text)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"# ok\n# caf\xe9\n")
    for path, line, says in (
        (tmp_path / "no.toml", 0, "No such file"),
        (tmp_path, 0, "directory"),
        (tmp_path / "latin.toml", 2, "UTF-8"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(str(path), env={})
        (problem,) = caught.value.problems
        assert (problem.file, problem.line) == (str(path), line)
        assert says in problem.message


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "f.toml").write_bytes(b"\xef\xbb\xbf" + ROUTE.encode())
    assert load(str(tmp_path / "f.toml"), env={}).routes


# ---- how it fits together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[[route]]\nrespond = 200\n", "", "no listener"),
        (HEAD + "[[route]]\n", "route[0]", "no answer"),
        (HEAD + '[[route]]\napp = "a:b"\nredirect = "/"\n', "route[0]", "2 answers: app, redirect"),
        (HEAD + '[[route]]\nproxy = "web"\n', "route[0].proxy.upstream", 'no upstream "web"'),
        (HEAD + "[[route]]\n[route.proxy]\n", "route[0].proxy", "no upstream"),
        (
            HEAD
            + '[[route]]\nproxy = { upstream = "u", split = { u = 1 } }\n[[upstream]]\nname = "u"\nservers = ["a:1"]\n',
            "route[0].proxy",
            "both",
        ),
        (HEAD + '[[route]]\nlistener = "wbe"\nrespond = 200\n', "route[0].listener", 'no listener "wbe"'),
        (HEAD + '[[route]]\npath = "/a*"\nrespond = 200\n', "route[0].path", "segment a*"),
        (HEAD + '[[route]]\npath = "/a/../b"\nrespond = 200\n', "route[0].path", "dot segments"),
        (HEAD + '[[route]]\nmethods = ["get"]\nrespond = 200\n', "route[0].methods", "capitals"),
        (HEAD + '[[route]]\npath = "/x"\ntopic = {}\n', "route[0].topic", "no name"),
        (HEAD + '[[route]]\npath = "/x"\ntopic = { name = "x", presence_lease = "10ms" }\n', "route[0].topic.presence_lease", "too short"),
        (HEAD + '[[route]]\npath = "/x"\nsignal = {}\n', "route[0].signal", "no room"),
        (HEAD + '[[route]]\npath = "/{a}"\nredirect = "/{b}"\n', "route[0].redirect", "{b} is unknown"),
        (HEAD + '[[route]]\nredirect = "/a b"\n', "route[0].redirect", "blank"),
        (HEAD + "[[route]]\nrespond = { status = 204, body = 'x' }\n", "route[0].respond", "no body"),
        (
            HEAD + "[[route]]\nrespond = { headers = { a = 'x\\ny' } }\n".replace("'", '"'),
            "route[0].respond.headers",
            "header value",
        ),
        (ROUTE + HEAD, "listener[1].bind", "already bound"),
        (ROUTE + '[[listener]]\nname = "listener1"\nbind = "127.0.0.1:1"\n', "listener[1].name", "name of another"),
        (ROUTE + '[[listener]]\nkind = "tcp"\nbind = "127.0.0.1:1"\n', "listener[1]", "no upstream"),
        (ROUTE + '[[listener]]\nmode = "nat"\nbind = "127.0.0.1:1"\n', "listener[1].mode", "tcp"),
        (ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\nturn = { realm = "x" }\n', "listener[1].turn", "belongs to"),
        (ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\nprotocols = ["h3"]\n', "listener[1].protocols", "needs TLS"),
        (ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\nprotocols = []\n', "listener[1].protocols", "is empty"),
        (ROUTE + f'[[listener]]\nbind = "unix:/{"x" * 120}"\n', "listener[1].bind", "121 bytes"),
        (ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\ntls = {}\n', "listener[1].tls", "no certificate"),
        (
            ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\ntls = { certificate = "/no/c.pem" }\n',
            "listener[1].tls.certificate",
            "does not exist",
        ),
        (
            ROUTE + '[[listener]]\nbind = "127.0.0.1:1"\ntls = { mode = "dev", min = "1.3", max = "1.2" }\n',
            "listener[1].tls.min",
            "newer",
        ),
        (ROUTE + '[server]\npattern = "single"\nworkers = 2\n', "server.workers", "exactly one"),
        (ROUTE + "[server]\nfronts = 2\n", "server.fronts", "dispatch"),
        (ROUTE + '[[upstream]]\nname = "u"\n', "upstream[0]", "no servers"),
        (ROUTE + '[[upstream]]\nname = "u"\nservers = ["a:0"]\n', "upstream[0].servers[0]", "port 0"),
        (ROUTE + '[[upstream]]\nname = "u"\nservers = ["a:1"]\nprotocol = "h2"\n', "upstream[0].protocol", "needs TLS"),
        (ROUTE + '[[upstream]]\nname = "u"\nservers = ["a:1"]\nprotocol = "h3"\n', "upstream[0].protocol", "needs TLS"),
        (ROUTE + '[[upstream]]\nname = "u"\nservers = ["unix:/x"]\nprotocol = "h3"\ntls = true\n', "upstream[0].protocol", "UDP"),
        (
            ROUTE + '[[upstream]]\nname = "u"\nservers = ["a:1"]\nbalance = "hash(cookie)"\n',
            "upstream[0].balance",
            "by what",
        ),
        (
            ROUTE + '[[upstream]]\nname = "u"\nservers = ["a:1"]\npool = { warm = 9, max = 2 }\n',
            "upstream[0].pool.warm",
            "more than max",
        ),
        (
            HEAD + '[[route]]\nfilters = ["compres"]\nrespond = 1\n'.replace("= 1", "= 200"),
            "route[0].filters[0]",
            "unknown",
        ),
        (
            HEAD + '[[route]]\nfilters = [{ ratelimit = "100" }]\nrespond = 200\n',
            "route[0].filters[0].ratelimit.rate",
            "not a rate",
        ),
    ],
)
def test_what_does_not_fit_together_is_an_error(text, key, says):
    problem = only(text)
    assert problem.key == key
    assert says in problem.message
    assert problem.line > 0 or not key
    assert problem.hint


def test_a_route_that_is_never_reached_is_a_warning_that_names_the_other():
    problem = only(
        HEAD + '[[route]]\npath = "/a/*"\nrespond = 200\n\n[[route]]\npath = "/a/b"\nrespond = 200\n', "warning"
    )
    assert (problem.line, problem.key) == (7, "route[1]")
    assert "route 1 (t.toml:3" in problem.message


def test_a_public_listener_is_a_notice_and_a_public_page_a_warning():
    text = ROUTE.replace("127.0.0.1", "0.0.0.0") + '[admin]\npage = "0.0.0.0:9900"\n'
    assert "is public: 0.0.0.0:8000" in only(text, "notice").message
    assert "public" in only(text, "warning").message


def test_a_wildcard_that_overlaps_is_a_warning_and_both_families_do_not():
    assert "overlaps" in only(ROUTE + '[[listener]]\nbind = "0.0.0.0:8000"\n', "warning").message
    assert problems(ROUTE.replace('"127.0.0.1:8000"', '["0.0.0.0:8000", "[::]:8000"]'), "warning") == []
    assert problems(ROUTE.replace("8000", "0") + '[[listener]]\nbind = "127.0.0.1:0"\n') == []


# ---- variables and flags --------------------------------------------------------------------------------------------


def test_a_flag_is_stronger_than_a_variable_and_that_than_the_file():
    text = ROUTE + '[server]\nworkers = 1\nbacklog = 1\ngrace = "1s"\n[journey]\nserver_timing = "off"\n'
    env = {
        "FAIRLEAD_SERVER_WORKERS": "2",
        "FAIRLEAD_SERVER_BACKLOG": "2",
        "FAIRLEAD_LOG_QUERY": "off",
        "FAIRLEAD_SERVER_LIMITS_MEMORY": "1GiB",
        "HOME": "/",
    }
    config = loads(text, "t.toml", env=env, flags={"server.workers": 3, "log.access": "off"})
    server = config.server
    assert (
        server.workers,
        server.backlog,
        server.grace,
        server.limits.memory,
        config.log.query,
        config.log.access,
    ) == (3, 2, 1, 2**30, False, "off")
    origins = {
        path: str(config.origin(path))
        for path in ("server.workers", "server.backlog", "server.grace", "log.access", "server.unit")
    }
    assert origins == {
        "server.workers": "flag --workers",
        "server.backlog": "env FAIRLEAD_SERVER_BACKLOG",
        "server.grace": "t.toml:8",
        "log.access": "flag --access-log",
        "server.unit": "default",
    }


def test_a_wrong_variable_is_an_error_that_names_it():
    found = problems_with_env(
        {
            "FAIRLEAD_SERVER_WORKERS": "many",
            "FAIRLEAD_SERVER_WORKRES": "1",
            "FAIRLEAD_ADMIN": "unix:/x",
            "FAIRLEAD_OTHER": "1",
        }
    )
    assert sorted(problem.file for problem in found) == [
        "environment variable FAIRLEAD_SERVER_WORKERS",
        "environment variable FAIRLEAD_SERVER_WORKRES",
    ]
    assert any("FAIRLEAD_SERVER_WORKERS?" in problem.hint for problem in found)


def problems_with_env(env):
    return [problem for problem in examine_text(ROUTE, "t.toml", env=env)[1] if problem.severity == "error"]


def test_every_scalar_of_the_process_can_be_a_variable():
    names = variables()
    for section, cls in (("server", c.Server), ("admin", c.Admin), ("log", c.Log), ("journey", c.Journey)):
        for _, setting, key in settings(cls):
            if setting.table is None and setting.kind.scalar:
                assert names[f"FAIRLEAD_{section}_{key}".upper()][0] == f"{section}.{key}"


def test_run_with_an_application_means_one_listener_and_one_route():
    config = config_from_args("shop.main:app", bind="127.0.0.1:9000", workers=2, pattern="reuseport", tls="dev", env={})
    (listener,), (route,) = config.listeners, config.routes
    assert (str(listener.bind[0]), listener.tls.mode, route.app.target, route.path) == (
        "127.0.0.1:9000",
        "dev",
        "shop.main:app",
        "",
    )
    assert (config.server.workers, config.server.pattern) == (2, "reuseport")
    assert str(config.admin.page) == "127.0.0.1:9900"
    assert str(config.origin("listener[0].bind")) == "flag --bind"


def test_the_page_is_on_only_where_nobody_else_comes():
    assert config_from_args("a:b", bind="0.0.0.0:80", env={}).admin.page is None
    assert config_from_args("a:b", page="off", env={}).admin.page is None
    assert config_from_args("a:b", env={"FAIRLEAD_ADMIN_PAGE": "off"}).admin.page is None
    assert str(config_from_args("a:b", page="127.0.0.1:1", env={}).admin.page) == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ({"bind": "8000"}, "--bind"),
        ({"target": "app"}, "the application"),
        ({"pattern": "fast"}, "--pattern"),
        ({"pattern": "single", "workers": 2}, "--workers"),
        ({"tls": "yes"}, "--tls"),
    ],
)
def test_a_wrong_flag_is_named(arguments, flag):
    with pytest.raises(ConfigError) as caught:
        config_from_args(**({"target": "a:b", "env": {}} | arguments))
    assert [problem.file for problem in caught.value.problems] == [flag]


# ---- the dataclasses ------------------------------------------------------------------------------------------------


def every_table():
    todo, seen = [c.Config, *FILTERS.values()], []
    while todo:
        cls = todo.pop()
        if cls not in seen:
            seen.append(cls)
            todo += [setting.table for _, setting, _ in settings(cls) if setting.table is not None]
    return [cls for cls in seen if cls is not c.Filter]


@pytest.mark.parametrize("cls", every_table(), ids=lambda cls: cls.__name__)
def test_every_setting_has_a_doc_and_a_default_that_reads_as_itself(cls):
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen and cls.__doc__
    for f, setting, _ in settings(cls):
        assert setting.doc.endswith(".") and len(setting.doc) > 4
        if setting.kind is not None and not setting.required:
            default = f.default if f.default is not dataclasses.MISSING else f.default_factory()
            import tomllib

            shown = tomllib.loads(f"x = {setting.kind.show(default)}")["x"]
            assert setting.kind.read(shown) == default


def test_a_network_is_strict_about_its_host_bits():
    assert u.read_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    with pytest.raises(u.BadValue) as caught:
        u.read_network("10.1.0.0/8")
    assert caught.value.hint == 'write "10.0.0.0/8"'


# ---- fuzz -----------------------------------------------------------------------------------------------------------

PIECES = [
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    "#",
    ",",
    ".",
    "[[route]]",
    "[x]",
    "\\",
    '"""',
    "1e400",
    "nan",
    "-1",
    "0x" + "f" * 40,
    "true",
    '"10s"',
    '""',
    "{}",
    "[]",
    "\x00",
    "é",
    "1979-05-27",
]


def mutated(text, rng):
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randint(0, len(text)) for _ in range(2))
        to = min(to, at + rng.choice([0, 1, 5, 60]))
        text = text[:at] + rng.choice(["", rng.choice(PIECES), text[to : to + 20]]) + text[to:]
    return text


def swapped(text, rng):
    """Values replaced by values of another sort, which stays TOML more often than free mutation does."""
    values = [
        *PIECES,
        '"x:y"',
        '"unix:"',
        '"[::1]:1"',
        "[1, [2]]",
        '{ a = { b = "c" } }',
        '"none"',
        "99999999999999999999",
        "-0.0",
        '["", ""]',
    ]
    lines = text.split("\n")
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(lines))
        lines[at] = re.sub(r"= .*", lambda _: f"= {rng.choice(values)}", lines[at]) if "=" in lines[at] else lines[at]
    return "\n".join(lines)


@pytest.mark.parametrize("mutate", [mutated, swapped])
def test_no_mutation_of_the_full_example_raises_anything_but_config_error(mutate):
    text, rng, good = FULL.read_text(), random.Random(7), 0
    for _ in range(150):
        changed = mutate(text, rng)
        try:
            loads(changed, "t.toml")
            good += 1
        except ConfigError as error:
            assert error.problems
            assert all(problem.message for problem in error.problems)
    assert good < 150


def test_a_configuration_can_be_sent_to_another_process():
    config = examine(str(FULL), env={})[0]
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.sources == config.sources


def test_a_thousand_routes_are_checked_and_the_shadowed_one_is_found():
    routes = "".join(f'[[route]]\npath = "/s{index}/*"\nrespond = 200\n' for index in range(1000))
    problem = only(HEAD + routes + '[[route]]\npath = "/s7/x"\nrespond = 200\n', "warning")
    assert "route 8 (" in problem.message


def test_a_variable_sets_every_listener_and_every_application():
    text = ROUTE + '[[listener]]\nname = "b"\nbind = "127.0.0.1:1"\nlimits = { header = "9s" }\n[[route]]\napp = "m:a"\n'
    env = {
        "FAIRLEAD_LISTENER_LIMITS_HEADER": "3s",
        "FAIRLEAD_LISTENER_FORWARDED": "10.0.0.0/8, 192.168.0.0/16",
        "FAIRLEAD_LISTENER_TLS": "dev",
        "FAIRLEAD_LISTENER_TLS_MIN": "1.3",
        "FAIRLEAD_APP_THREADS": "7",
    }
    config = loads(text, "t.toml", env=env)
    assert len(config.listeners) == 2
    for place, one in enumerate(config.listeners):
        assert (one.limits.header, len(one.forwarded), one.tls.mode, one.tls.min) == (3.0, 2, "dev", "1.3")
        assert str(config.origin(f"listener[{place}].limits.header")) == "env FAIRLEAD_LISTENER_LIMITS_HEADER"
    apps = [one.app for one in config.routes if one.app is not None]
    assert apps and all(one.threads == 7 for one in apps)


def test_on_the_command_line_a_flag_is_stronger_than_a_listeners_variable():
    env = {"FAIRLEAD_LISTENER_BIND": "127.0.0.1:9000, [::1]:9000", "FAIRLEAD_APP_FACTORY": "on", "FAIRLEAD_LISTENER_TLS": "dev"}
    by_env = config_from_args("m:a", env=env)
    assert [str(one) for one in by_env.listeners[0].bind] == ["127.0.0.1:9000", "[::1]:9000"]
    assert by_env.routes[0].app.factory and by_env.listeners[0].tls.mode == "dev"
    by_flag = config_from_args("m:a", "127.0.0.1:8100", env=env, settings={"app.interface": "asgi"})
    assert [str(one) for one in by_flag.listeners[0].bind] == ["127.0.0.1:8100"]


def test_a_listeners_variable_that_is_wrong_or_unknown_is_named():
    found = problems_with_env({"FAIRLEAD_LISTENER_LIMITS_HEADER": "soon", "FAIRLEAD_LISTENER_LIMITS_HEDER": "1s"})
    assert {problem.file.removeprefix("environment variable ") for problem in found} == {
        "FAIRLEAD_LISTENER_LIMITS_HEADER",
        "FAIRLEAD_LISTENER_LIMITS_HEDER",
    }


def test_every_setting_of_a_listener_can_be_a_variable_but_its_name_and_mappings():
    names = variables()
    for _, setting, key in settings(c.Listener):
        if setting.table is None:
            assert (f"FAIRLEAD_LISTENER_{key}".upper() in names) is (key not in ("name", "sni"))


@pytest.mark.parametrize("name", ["compress", "decompress"])
def test_a_coding_that_is_written_but_not_installed_is_an_error_and_a_default_one_is_left_out(name, monkeypatch):
    monkeypatch.setattr(coding, "library", lambda name: None)
    wanted = ROUTE + f'filters = [ {{ {name} = {{ algorithms = ["br", "gzip"] }} }} ]\n'
    [problem] = problems(wanted, "error")
    assert "br" in str(problem) and "not installed" in str(problem) and "fairlead[br]" in str(problem)
    assert problems(ROUTE + f'filters = [ "{name}" ]\n', "error") == []
