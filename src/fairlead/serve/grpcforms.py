"""Other ways to put a gRPC call into HTTP, for browsers and for who has no gRPC: gRPC-Web, and JSON.

    application/grpc-web, -text       the same messages; the trailers are the body's last frame (PROTOCOL-WEB.md)
    application/json                  POST /package.Service/Method, or what a google.api.http rule says (`serve.grpcrules`)
    application/x-ndjson              the same with a stream: a message a line, either way
    Accept: text/event-stream         a server's stream as events; `end` and `error` are events of their own

Rules
1. Any HTTP version will do. A request's kind decides the answer's; `grpc-timeout` is heeded in all.
2. An answer in JSON has the HTTP status that belongs to the gRPC status, and {"code", "message", "details"} as its body. In a
   stream whose head is out the last line is {"error": {...}}, for events one called `error`.
3. JSON is protobuf's own (`serve.grpcmessages`): names in lowerCamelCase, unknown fields refused. What does not
   fit is INVALID_ARGUMENT.
4. Pages of other origins may call only if `origins` lists theirs. A preflight request is answered here (Fetch, "CORS protocol").
   JSON is taken by its content-type only, so that no page can send it without asking first.
5. GET calls only what has no side effects: by a rule of google.api.http, or a method whose idempotency_level says so.
"""

# mypy: disable-error-code="union-attr,attr-defined,has-type,assignment,var-annotated"

from __future__ import annotations

import json
from typing import Any

from fairlead.core.errors import WireError
from fairlead.core.message import Response
from fairlead.serve.grpchome import Form
from fairlead.serve.grpcmessages import messages_of
from fairlead.serve.grpcrules import Rules, from_query
from fairlead.wire.grpc import message, too_long
from fairlead.wire.grpcwords import NAMES, TO_HTTP, Text, hear_message, to_text, web_trailers

AGE = b"7200"  # seconds that a browser may remember a preflight answer; Chromium's most
EXPOSED = b"grpc-status, grpc-message, grpc-status-details-bin"


class Forms:
    """The forms of one server's calls. `web`, `json`: whether they are spoken; `origins`: pages that may call, `*` all."""

    def __init__(self, home, web=True, json=True, origins=()):
        self.web = web
        self.json = json
        self.origins = tuple(origins)
        self.rules = Rules(home.methods) if self.json else None

    def form(self, home, exchange, kind):
        """The form of a request that is no plain gRPC, None when it has none. A preflight request is answered."""
        request = exchange.request
        kind = (kind or b"").lower().partition(b";")[0].strip()
        if request.method == "OPTIONS" and request.get(b"access-control-request-method") is not None:
            self.preflight(exchange)
            return None
        cors = self.allowed(request.get(b"origin"))
        if kind.startswith(b"application/grpc-web"):
            return Web(kind, cors) if self.web and request.method == "POST" else None
        return self.in_json(home, request, kind, cors) if self.json else None

    def in_json(self, home, request, kind, cors):
        """The form of a request in JSON, or None."""
        lines = kind == b"application/x-ndjson"
        method = home.methods.get(request.raw_path)
        path, values, rule = request.raw_path, [], None
        if method is None or (request.method == "GET" and not self.rules.safe(path)):
            rule, values = self.rules.match(request.method, request.raw_path)
            if rule is None:
                return None
            path = rule.path
            method = home.methods[path]
        elif request.method not in ("POST", "GET"):
            return None
        if request.method != "GET" and not lines and kind != b"application/json":
            if request.method != "DELETE" or kind:
                return None
        if request.query and (rule is None or rule.body != "*"):
            values = values + from_query(request.query)
        form = Json(method, rule, values, request.get(b"accept") or b"", cors, home.most)
        form.path = path
        return form

    def allowed(self, origin):
        """The CORS fields of an answer to a page of this origin."""
        if origin is None or not self.origins:
            return []
        if "*" in self.origins:
            allow = b"*"
        elif origin.decode("latin-1") in self.origins:
            allow = origin
        else:
            return [(b"vary", b"origin")]
        return [(b"access-control-allow-origin", allow), (b"access-control-expose-headers", EXPOSED), (b"vary", b"origin")]

    def preflight(self, exchange):
        """Answer a browser that asks whether it may."""
        request = exchange.request
        fields = self.allowed(request.get(b"origin"))
        if len(fields) < 2:
            exchange.whole(Response(403, [*fields, (b"content-length", b"0")], 0), b"")
            return
        wanted = request.get(b"access-control-request-headers")
        fields.append((b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"))
        if wanted is not None:
            fields.append((b"access-control-allow-headers", wanted))
        fields.append((b"access-control-max-age", AGE))
        exchange.whole(Response(204, fields, 0), b"")


class Web(Form):
    """gRPC-Web, and gRPC-Web-Text."""

    def __init__(self, kind, cors):
        self.unframed = False
        self.path = None
        self.text = Text() if kind.startswith(b"application/grpc-web-text") else None
        plain = b"application/grpc-web-text+proto" if self.text is not None else b"application/grpc-web+proto"
        self.fields = [(b"content-type", kind if kind.endswith(b"+proto") else plain), *cors]

    def feed(self, data):
        return data if self.text is None else self.text.feed(data)

    def over(self):
        if self.text is not None:
            self.text.end()
        return b""

    def head(self, call, fields):
        return Response(200, self.fields + fields)

    def frame(self, payload, packed):
        return self.said(message(payload, packed))

    def finish(self, call, code, trailers):
        call.send_head()
        call.exchange.data(self.said(web_trailers(trailers)), True)

    def said(self, data):
        """Bytes as this form writes them."""
        return data if self.text is None else to_text(data)


class Json(Form):
    """JSON: one message, or one a line. `rule`: of google.api.http, or None; `values`: (name, text) of the path and query."""

    def __init__(self, method, rule, values, accept, cors, most):
        self.unframed = True
        self.rule = rule
        self.values = values
        self.cors = cors
        self.most = most
        self.events = method.server_stream and b"text/event-stream" in accept
        self.lines = method.client_stream
        self.streams = method.server_stream
        self.messages = messages_of(method)
        self.rest = b""

    # ---- the request

    def feed(self, data):
        self.rest += data
        found = b""
        if self.lines:
            *lines, self.rest = self.rest.split(b"\n")
            found = b"".join([message(line, False) for line in lines if line.strip()])
        if self.most and len(self.rest) > self.most:
            raise too_long(len(self.rest), self.most)
        return found

    def over(self):
        rest, self.rest = self.rest, b""
        if self.lines and not rest.strip():
            return b""
        return message(rest, False)

    def decode(self, method, payload):
        try:
            made = json.loads(payload) if payload.strip() else {}
            body = self.rule.body if self.rule is not None else "*"
            if body == "" and payload.strip():
                raise WireError("this method takes no body", rule="grpc-json")
            if body not in ("", "*"):
                made = {body: made}
            return self.messages.taken(made, self.values)
        except (ValueError, TypeError, RecursionError) as error:
            raise WireError(f"the JSON does not fit {self.messages.name}: {error}", rule="grpc-json") from None

    # ---- the answer

    def encode(self, method, value):
        return self.messages.written(value, self.rule.response if self.rule is not None else "")

    def head(self, call, fields):
        kind = b"application/json"
        if self.streams:
            kind = b"text/event-stream" if self.events else b"application/x-ndjson"
        found = [(b"content-type", kind), *self.cors, *fields]
        if self.streams:
            found.append((b"cache-control", b"no-store"))
        return Response(200, found)

    def frame(self, payload, packed):
        if self.events:
            return b"data: " + payload + b"\n\n"
        return payload + b"\n" if self.streams else payload

    def finish(self, call, code, trailers):
        exchange = call.exchange
        if code and not call.said:
            call.said = True
            body = json.dumps(problem(code, trailers)).encode()
            fields = [(b"content-type", b"application/json"), *self.cors, *(call.initial or ())]
            exchange.whole(Response(TO_HTTP[code], fields, len(body)), body)
            return
        call.send_head()
        if self.events:
            name = b"error" if code else b"end"
            exchange.data(b"event: " + name + b"\ndata: " + json.dumps(problem(code, trailers)).encode() + b"\n\n", True)
        elif code:
            exchange.data(json.dumps({"error": problem(code, trailers)}).encode() + b"\n", self.streams)
            if not self.streams:
                exchange.reset(WireError("the call failed after its answer", status=500), "both")
        else:
            exchange.end(None)


def problem(code: int, trailers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A status as JSON, as google.rpc.Status has it, with the status' name."""
    found = dict(trailers)
    made: dict[str, Any] = {"code": code, "status": NAMES[code], "message": hear_message(found.get(b"grpc-message", b""))}
    raw = found.get(b"grpc-status-details-bin")
    if raw is not None:
        made["details"] = details(raw)
    return made


def details(raw: bytes) -> list[Any]:
    """The details of a status, those whose types are known here."""
    from base64 import b64decode

    try:
        from google.protobuf import json_format
        from google.rpc import status_pb2
    except ImportError:
        return []
    found = []
    for one in status_pb2.Status.FromString(b64decode(raw + b"=" * (-len(raw) % 4))).details:
        try:
            found.append(json_format.MessageToDict(one))
        except (TypeError, ValueError):
            found.append({"@type": one.type_url})
    return found
