"""gRPC-Web, its text form, and JSON: on the wire of HTTP/1.1, as browsers and curl send them."""
# ruff: noqa: E402 (what follows needs grpcio)

from __future__ import annotations

import base64
import http.client
import json

import pytest

grpc = pytest.importorskip("grpc")

import fairlead
import fairlead.grpc
from fairlead.serve.grpcrules import compiled, filled
from fairlead.wire.grpc import message
from grpckit import ITEM, ONE
from grpcserved import Blocking, Notes, Todo, pb, rpc
from shelf import Shelf, shelf_handlers


@pytest.fixture(scope="module", params=["async", "blocking"])
def port(request, tmp_path_factory):
    """A configured route, so that `origins` can be said."""
    folder = tmp_path_factory.mktemp("grpcweb")
    server = fairlead.grpc.Server(max_message=3000)
    rpc.add_TodoServicer_to_server((Todo if request.param == "async" else Blocking)(Notes()), server)
    server.add_registered_method_handlers("shelf.v1.Shelves", shelf_handlers(Shelf()))
    module = f"webserved_{request.param}"
    import sys
    import types

    sys.modules[module] = types.ModuleType(module)
    sys.modules[module].server = server
    file = folder / "fairlead.toml"
    file.write_text(
        f"""
[[listener]]
bind = "127.0.0.1:0"
[[route]]
path = "/*"
grpc = {{ target = "{module}:server", origins = ["https://page.example"] }}
[store]
"""
    )
    with fairlead.Server(str(file)) as web:
        yield web.port
    del sys.modules[module]


def ask(port, method, path, body=None, **fields):
    """(status, fields, body) over HTTP/1.1."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    conn.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
    answer = conn.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    conn.close()
    return found


def frames(body):
    """(messages, trailers) of a gRPC-Web body."""
    messages, trailers = [], None
    while body:
        size = int.from_bytes(body[1:5], "big")
        if body[0] & 0x80:
            trailers = dict(line.split(": ", 1) for line in body[5 : 5 + size].decode().split("\r\n") if line)
        else:
            assert trailers is None
            messages.append(body[5 : 5 + size])
        body = body[5 + size :]
    return messages, trailers


def from_text(body):
    """Base64 in padded pieces."""
    found = b""
    while body:
        end = body.find(b"=")
        end = len(body) if end < 0 else end // 4 * 4 + 4
        found += base64.b64decode(body[:end])
        body = body[end:]
    return found


# ---- gRPC-Web


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto"])
def test_a_call_by_grpc_web(port, kind):
    status, fields, body = ask(port, "POST", "/todo.v1.Todo/CreateTodo", ONE, content_type=kind)
    assert status == 200 and fields["content-type"] == "application/grpc-web+proto"
    assert frames(body) == ([b"\x08\x07" + ITEM], {"grpc-status": "0"})


def test_a_stream_by_grpc_web_text(port):
    kind = "application/grpc-web-text"
    status, fields, body = ask(port, "POST", "/todo.v1.Todo/ReadTodosStream", base64.b64encode(b"\0\0\0\0\0"), content_type=kind)
    assert status == 200 and fields["content-type"] == "application/grpc-web-text+proto"
    messages, trailers = frames(from_text(body))
    assert [pb.Item.FromString(one).id for one in messages] == [0, 1, 2] and trailers == {"grpc-status": "0"}


def test_text_that_comes_in_padded_pieces(port):
    body = base64.b64encode(ONE[:4]) + base64.b64encode(ONE[4:])
    _, _, answer = ask(port, "POST", "/todo.v1.Todo/CreateTodo", body, content_type="application/grpc-web-text")
    assert frames(from_text(answer))[1] == {"grpc-status": "0"}


def test_an_error_by_grpc_web_is_in_the_last_frame(port):
    abort = message(b"\x12\x05abort", False)
    status, _, body = ask(port, "POST", "/todo.v1.Todo/CreateTodo", abort, content_type="application/grpc-web")
    messages, trailers = frames(body)
    assert status == 200 and messages == [] and trailers["grpc-status"] == "5" and "%E2%98%BA" in trailers["grpc-message"]


@pytest.mark.parametrize(
    "kind, body, code",
    [
        ("application/grpc-web", ONE[:-1], "13"),
        ("application/grpc-web", b"\x80\0\0\0\0", "13"),
        ("application/grpc-web", b"\0\0\0\xff\xff", "8"),
        ("application/grpc-web", b"", "12"),
        ("application/grpc-web-text", b"!!!!", "13"),
        ("application/grpc-web-text", base64.b64encode(ONE)[:-1], "13"),
    ],
)
def test_malformed_grpc_web(port, kind, body, code):
    status, _, answer = ask(port, "POST", "/todo.v1.Todo/CreateTodo", body, content_type=kind)
    assert status == 200
    assert frames(from_text(answer) if kind.endswith("text") else answer)[1]["grpc-status"] == code


def test_pages_of_other_origins(port):
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "x-grpc-web,content-type"}
    status, fields, _ = ask(port, "OPTIONS", "/todo.v1.Todo/CreateTodo", origin="https://page.example", **asked)
    assert status == 204 and fields["access-control-allow-origin"] == "https://page.example"
    assert fields["access-control-allow-headers"] == "x-grpc-web,content-type" and "POST" in fields["access-control-allow-methods"]
    status, fields, _ = ask(port, "OPTIONS", "/todo.v1.Todo/CreateTodo", origin="https://evil.example", **asked)
    assert status == 403 and "access-control-allow-origin" not in fields
    for origin, allowed in (("https://page.example", True), ("https://evil.example", False)):
        _, fields, _ = ask(port, "POST", "/todo.v1.Todo/CreateTodo", ONE, content_type="application/grpc-web", origin=origin)
        assert ("access-control-allow-origin" in fields) is allowed and fields["vary"] == "origin"


# ---- JSON


def test_a_call_in_json(port):
    smile = b'{"text": "\xe2\x98\xba"}'
    status, fields, body = ask(port, "POST", "/todo.v1.Todo/CreateTodo", smile, content_type="application/json")
    assert (status, fields["content-type"]) == (200, "application/json")
    assert json.loads(body) == {"id": 7, "text": "☺"}
    assert ask(port, "POST", "/todo.v1.Todo/CreateTodo", b"", content_type="application/json")[0] == 200


def test_an_error_in_json_has_the_status_that_belongs_to_it(port):
    status, _, body = ask(port, "POST", "/todo.v1.Todo/CreateTodo", b'{"text": "abort"}', content_type="application/json")
    assert status == 404 and json.loads(body) == {"code": 5, "status": "NOT_FOUND", "message": "no such ☺ 100%"}


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"text": 1}', b'{"other": 1}', b"\xff", b"[" * 100000 + b"1", b'"x"'])
def test_json_that_does_not_fit(port, body):
    body = body[:2900]
    status, _, answer = ask(port, "POST", "/todo.v1.Todo/CreateTodo", body, content_type="application/json")
    assert status == 400 and json.loads(answer)["code"] == 3 and "todo.v1.Item" in json.loads(answer)["message"]


def test_json_over_the_limit(port):
    status, _, body = ask(port, "POST", "/todo.v1.Todo/CreateTodo", b" " * 4000, content_type="application/json")
    assert status == 429 and json.loads(body)["code"] == 8


def test_a_stream_as_lines_and_as_events(port):
    status, fields, body = ask(port, "POST", "/todo.v1.Todo/ReadTodosStream", b"{}", content_type="application/json")
    assert status == 200 and fields["content-type"] == "application/x-ndjson"
    assert [json.loads(line).get("id", 0) for line in body.splitlines()] == [0, 1, 2]
    more = {"content_type": "application/json", "accept": "text/event-stream"}
    _, fields, body = ask(port, "POST", "/todo.v1.Todo/ReadTodosStream", b"{}", **more)
    assert fields["content-type"] == "text/event-stream"
    *events, last, _ = body.split(b"\n\n")
    assert [json.loads(event.removeprefix(b"data: ")).get("id", 0) for event in events] == [0, 1, 2]
    assert last.startswith(b"event: end\ndata: {")


def test_a_client_stream_as_lines(port):
    lines = b'{"text": "a"}\n\n{"text": "b"}\n{"text": "c"}'
    _, _, body = ask(port, "POST", "/todo.v1.Todo/UploadTodos", lines, content_type="application/x-ndjson")
    assert json.loads(body) == {"count": 3}


def test_no_page_can_send_json_without_asking(port):
    assert ask(port, "POST", "/todo.v1.Todo/CreateTodo", b"{}", content_type="text/plain")[0] == 415
    assert ask(port, "GET", "/todo.v1.Todo/CreateTodo")[0] == 405


# ---- google.api.http


@pytest.mark.parametrize(
    "method, path, body, want",
    [
        ("GET", "/v1/shelves/a%20b/books/7?page=2&tags=x&tags=y&open=true", None,
         {"shelf": "a b", "book": "7", "page": 2, "tags": ["x", "y"], "open": True}),
        ("POST", "/v1/shelves/a/books", b'{"title": "T", "page": 3}', {"shelf": "a", "title": "T", "page": 3}),
        ("PUT", "/v1/shelves/a/books/7", b'{"name": "N"}', {"shelf": "a", "book": "7", "inner": {"name": "N"}}),
        ("DELETE", "/v1/all/x/y/z", None, {"book": "x/y/z"}),
        ("POST", "/v1/shelves/a:close", b"{}", {"shelf": "a"}),
    ],
)  # fmt: skip
def test_rules_of_google_api_http(port, method, path, body, want):
    fields = {"content_type": "application/json"} if body is not None else {}
    status, _, answer = ask(port, method, path, body, **fields)
    assert status == 200, answer
    assert json.loads(answer) == want


@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/v1/shelves/a/books/7?nothing=1", 400), ("GET", "/v1/shelves/a/books/7?open=maybe", 400), ("GET", "/v1/none", 405),
     ("GET", "/v1/shelves/a/books/7?page=x", 400), ("GET", "/v1/shelves/a/books/7?inner.name.x=1", 400),
     ("GET", "/v1/shelves/a/books/7?" + "&".join(["tags=1"] * 300), 400)],
)  # fmt: skip
def test_what_no_rule_takes(port, method, path, status):
    assert ask(port, method, path)[0] == status


def test_a_field_of_the_answer_may_be_the_whole_body(port):
    status, _, body = ask(port, "GET", "/v1/title/T")
    assert status == 200 and json.loads(body) == "T"


def test_templates():
    pattern, names, literal = compiled("/v1/{name=shelves/*/books/**}:take")
    assert names == ("name",) and literal == "/v1/"
    assert pattern.fullmatch("/v1/shelves/a/books/b/c:take").group(1) == "shelves/a/books/b/c"
    assert pattern.fullmatch("/v1/shelves/a/b/books/b") is None
    for bad in ("v1", "/v1/{", "/v1/{a=*", "/{}"):
        with pytest.raises(ValueError):
            compiled(bad)
    with pytest.raises(ValueError, match="no object"):
        filled(pb.Item.DESCRIPTOR, [], "text", "x")
