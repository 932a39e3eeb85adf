"""gRPC through the reverse proxy: balanced by the call; deadlines; retries by rule, status and service config; health checks."""
# ruff: noqa: SIM117 (an origin, then what stands before it)

from __future__ import annotations

import asyncio
import json
import time

import pytest

import fairlead
from fairlead.core.errors import ConfigError
from fairlead.run import config as c
from fairlead.run.grpcproxying import service_config
from fairlead.run.load import load
from fairlead.run.probes import Probe
from fairlead.wire.grpc import message, timeout_of
from grpckit import ITEM, ONE, Client, Origin

FINE = [(":status", "200"), ("content-type", "application/grpc")]


def ok(conn, stream):
    """A whole answer."""
    conn.send_headers(stream, FINE)
    conn.send_data(stream, message(ITEM, False))
    conn.send_headers(stream, [("grpc-status", "0")], end_stream=True)


def failed(conn, stream, code):
    """Trailers-Only."""
    conn.send_headers(stream, [*FINE, ("grpc-status", str(code)), ("grpc-message", "not now")], end_stream=True)


def proxied(folder, origins, retry="", upstream=""):
    """A server in front of origins."""
    servers = ", ".join(f'"127.0.0.1:{one.port}"' for one in origins)
    file = folder / "fairlead.toml"
    file.write_text(
        f"""
[[listener]]
bind = "127.0.0.1:0"
[[route]]
[route.proxy]
upstream = "up"
{retry}
[[upstream]]
name = "up"
balance = "round-robin"
servers = [{servers}]
protocol = "h2c"
{upstream}
"""
    )
    return fairlead.Server(str(file))


def test_each_call_of_one_connection_is_balanced_by_itself(tmp_path):
    with Origin(lambda conn, stream, _: ok(conn, stream)) as one, Origin(lambda conn, stream, _: ok(conn, stream)) as other:
        with proxied(tmp_path, [one, other]) as web, Client(web.port) as client:
            for _ in range(10):
                answer = client.ask()
                assert answer.body == message(ITEM, False) and answer.trailers == {"grpc-status": "0"}
            assert len(one.requests) == len(other.requests) == 5
            assert one.requests[0][0]["te"] == "trailers" and one.requests[0][1] == ONE


def test_an_answer_without_a_message_passes_as_it_is(tmp_path):
    with Origin(lambda conn, stream, _: failed(conn, stream, 14)) as origin:
        with proxied(tmp_path, [origin]) as web, Client(web.port) as client:
            answer = client.ask()
            assert answer.head["grpc-status"] == "14" and answer.head["grpc-message"] == "not now" and answer.trailers == {}
            assert len(origin.requests) == 1


def test_a_status_that_is_listed_is_asked_again(tmp_path):
    def answer(conn, stream, number):
        ok(conn, stream) if number == 3 else failed(conn, stream, 14)

    with Origin(answer) as origin, proxied(tmp_path, [origin], 'retry = { times = 2, grpc = ["UNAVAILABLE"] }') as web:
        with Client(web.port) as client:
            assert client.ask(ONE * 3, path="/todo.v1.Todo/UploadTodos").status == 0
        assert [body for _, body in origin.requests] == [ONE * 3] * 3


@pytest.mark.parametrize("code, body, count", [(14, ONE, 2), (9, ONE, 1), (14, message(b"\x12" + b"x" * 70_000, False), 1)])
def test_what_is_asked_again_is_bounded(tmp_path, code, body, count):
    with Origin(lambda conn, stream, _: failed(conn, stream, code)) as origin:
        with proxied(tmp_path, [origin], 'retry = { times = 1, grpc = ["UNAVAILABLE"] }') as web, Client(web.port) as client:
            assert client.ask(body).status == code
        assert len(origin.requests) == count


def test_a_call_that_nobody_looked_at_is_sent_again(tmp_path):
    def answer(conn, stream, number):
        ok(conn, stream) if number == 2 else conn.reset_stream(stream, 7)  # REFUSED_STREAM

    with Origin(answer) as origin, proxied(tmp_path, [origin]) as web, Client(web.port) as client:
        assert client.ask().status == 0
        assert [body for _, body in origin.requests] == [ONE, ONE]


def test_a_call_that_somebody_may_have_looked_at_is_not(tmp_path):
    with Origin(lambda conn, stream, _: conn.reset_stream(stream, 2)) as origin:
        with proxied(tmp_path, [origin]) as web, Client(web.port) as client:
            assert client.ask().head[":status"] == "502"
            assert len(origin.requests) == 1


def test_the_deadline_goes_on_as_what_is_left_of_it(tmp_path):
    with Origin(lambda conn, stream, _: ok(conn, stream)) as origin:
        with proxied(tmp_path, [origin]) as web, Client(web.port) as client:
            client.ask(ONE, ("grpc-timeout", "10S"))
            left = timeout_of(origin.requests[0][0]["grpc-timeout"].encode())
            assert 0 < left < 10_000_000_000


def test_a_deadline_that_passes_is_said_to_both_sides(tmp_path):
    with Origin(lambda conn, stream, _: None) as origin, proxied(tmp_path, [origin]) as web, Client(web.port) as client:
        answer = client.ask(ONE, ("grpc-timeout", "500m"))
        assert answer.status == 4 and answer.head[":status"] == "200"
        end = time.monotonic() + 20
        while "reset" not in origin.requests and time.monotonic() < end:
            client.conn.ping(b"12345678")
            client.flush()
            client.read()
        assert "reset" in origin.requests


def test_a_service_config_says_how_often_and_how_long(tmp_path):
    (tmp_path / "service.json").write_text(
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "todo.v1.Todo", "method": "CreateTodo"}],
                        "timeout": "5s",
                        "retryPolicy": {
                            "maxAttempts": 3,
                            "initialBackoff": "0.001s",
                            "maxBackoff": "0.01s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE", 8],
                        },
                    }
                ]
            }
        )
    )
    with Origin(lambda conn, stream, _: failed(conn, stream, 8)) as origin:
        with proxied(tmp_path, [origin], 'retry = { service_config = "service.json" }') as web, Client(web.port) as client:
            assert client.ask().status == 8 and len(origin.requests) == 3
            assert "grpc-timeout" in origin.requests[0][0]
            assert client.ask(path="/todo.v1.Todo/ReadTodos").status == 8 and len(origin.requests) == 4


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"methodConfig": [{"retryPolicy": {"maxAttempts": 1}}]}', '{"methodConfig": [{"timeout": 5}]}']
)
def test_what_is_no_service_config(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError, match=r"s\.json is no gRPC service config"):
        service_config(str(tmp_path / "s.json"))


@pytest.mark.parametrize(
    "say, why",
    [
        (lambda conn, stream: (conn.send_headers(stream, FINE), conn.send_data(stream, message(b"\x08\x01", False)),
                               conn.send_headers(stream, [("grpc-status", "0")], end_stream=True)), ""),
        (lambda conn, stream: (conn.send_headers(stream, FINE), conn.send_data(stream, message(b"\x08\x02", False)),
                               conn.send_headers(stream, [("grpc-status", "0")], end_stream=True)), "NOT_SERVING"),
        (lambda conn, stream: failed(conn, stream, 12), "UNIMPLEMENTED: not now"),
        (lambda conn, stream: conn.send_headers(stream, [(":status", "404")], end_stream=True), "HTTP status 404"),
        (lambda conn, stream: conn.reset_stream(stream, 2), "reset"),
        (lambda conn, stream: (conn.send_headers(stream, FINE), conn.send_data(stream, b"\0\xff\xff\xff\xff")), "longer than"),
    ],
)  # fmt: skip
def test_the_health_service_is_an_active_check(tmp_path, say, why):
    with Origin(lambda conn, stream, _: say(conn, stream)) as origin:
        file = tmp_path / "fairlead.toml"
        file.write_text(
            f'[[listener]]\nbind = "127.0.0.1:0"\n[[route]]\nproxy = "up"\n[[upstream]]\nname = "up"\nprotocol = "h2c"\n'
            f'servers = ["127.0.0.1:{origin.port}"]\nhealth = {{ grpc = true, service = "todo.v1.Todo", timeout = "20s" }}\n'
        )
        [upstream] = load(str(file)).upstreams
        assert isinstance(upstream.health, c.Health)
        found = asyncio.run(Probe(upstream, ("127.0.0.1", origin.port), None).check())
        assert found.startswith(why) if why and "longer" not in why else why in found
        if not why:
            assert found == ""
        assert origin.requests[0][0][":path"] == "/grpc.health.v1.Health/Check"
        assert origin.requests[0][1] == message(b"\n\x0ctodo.v1.Todo", False)
