"""Differential fuzzing of wire.h1 against llhttp (httptools, strict) and h11, for requests and for responses.

    python fuzz/h1_differential.py --seconds 60 --seed 1

What is checked of every input, a made-up message that was then bent a little:

1. Split: whole, byte by byte and at random places, the same words are heard and the same rule is broken.
2. Framing: every message we hear to its end, llhttp hears with the same method (or status) and the same body, in the
   same order; and so does h11 with the first one. We may refuse what they take, never the other way.
3. Round trip: a message said by one role is heard by the other as it was meant.

Where an oracle is stricter than we want to be, or means something else, is in `llhttp_differs` and `h11_differs`.
An input that fails is printed and saved in fuzz/corpus/h1/, which later runs (and the tests) check first.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

import h11
import httptools

from fairlead.core.codec import Sink
from fairlead.core.errors import WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire.h1 import H1

CORPUS = Path(__file__).parent / "corpus" / "h1"
LIMITS = Limits(informational=50)
KNOWN = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "M-SEARCH", "PURGE"}

METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"FOO", b"get"]
TARGETS = [b"/", b"/a?b=c", b"*", b"http://a/b", b"http://a", b"a:80", b"/a#b", b"//a", b"/%00", b"?", b"/\xe9", b"a"]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 2 + [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 "]
STATUSES = [
    b"200 OK",
    b"200 ",
    b"200",
    b"204 No",
    b"304 Same",
    b"100 Go",
    b"103 Hint",
    b"101 Up",
    b"404 \xe9",
    b"99 x",
    b"500 A b",
]
LENGTHS = [
    b"3",
    b"0",
    b"03",
    b"+3",
    b"-1",
    b"3, 3",
    b"0x3",
    b"",
    b" 3 ",
    b"3 3",
    b"\t3",
    b"18446744073709551619",
    b"3\x0b",
    b"5",
    b"1_0",
]
CODINGS = [b"chunked"] * 6 + [
    b"Chunked",
    b"xchunked",
    b"chunked, identity",
    b"gzip, chunked",
    b"identity",
    b"",
    b"chunked\x0b",
    b",chunked",
]
FIELDS = [
    b"Accept: */*",
    b"X: a",
    b"X:",
    b"X:  a  b \t",
    b"X : a",
    b" X: a",
    b"X: a\r\n b",
    b"X: a\rb",
    b"X: a\nY: b",
    b"X: \0",
    b"X\0: a",
    b": a",
    b"Xfoo",
    b"X: \x7f",
    b"X: \xff",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: x",
    b"Expect: 100-continue",
    b"Expect: x",
    b"Host: a",
    b"Host: b",
    b"Host:",
    b"Host: a,b",
    b"Host: u@a",
    b"Host: [::1]:80",
    b"Trailer: x",
    b"Cookie: a=b",
    b"X-\xc3\xa9: a",
    b"Content_Length: 5",
    b"Content-Length : 5",
    b"Transfer-Encoding : chunked",
]
SIZES = [b"3"] * 6 + [
    b"03",
    b"0x3",
    b"3 ",
    b" 3",
    b"+3",
    b"-3",
    b"",
    b"3;a=b",
    b'3;a="b"',
    b"3;\x01",
    b"3;a\r",
    b"10000000000000003",
    b"ffffffffffffffff",
    b"3_",
]
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"", b"\r\r\n", b"\n\r"]
TRAILERS = [
    b"",
    b"",
    b"",
    b"X: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X: a\n",
    b" X: a\r\n",
    b"Host: x\r\n",
]
BITS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
]


class Ear(Sink):
    """Hears a codec: whole messages as (method or status, body, trailers), and all words in a form no split changes."""

    def __init__(self) -> None:
        self.words: list = []
        self.whole: list = []
        self.name: object = None
        self.body = b""
        self.special = False
        self.codec: H1 | None = None

    def head(self, stream, message, end):
        if isinstance(message, Request):
            self.name = message.method
            self.special = bool(message.upgrade) or message.method == "CONNECT"
            self.words.append(
                (message.method, message.target, message.authority, tuple(message.headers), message.length)
            )
        else:
            self.name = message.status
            self.special = False
            self.words.append((message.status, tuple(message.headers), message.length))
        self.body = b""
        if end:
            self.over(stream, None)

    def inform(self, stream, status, headers):
        self.words.append(("inform", status, tuple(headers)))

    def data(self, stream, chunk, end):
        self.body += chunk
        self.codec.consumed(stream, len(chunk))
        if end:
            self.over(stream, None)

    def end(self, stream, trailers):
        self.over(stream, trailers)

    def over(self, stream, trailers):
        self.words.append(("body", self.body, tuple(trailers or ())))
        self.whole.append((self.name, self.body, self.special))
        self.body = b""
        if not self.codec.client:
            self.codec.head(stream, Response(200, []), True)


def ours(data: bytes, client: bool, cuts: list[int]) -> tuple[Ear, str]:
    """What we hear of `data`, cut at `cuts`, and the rule that was broken or ""."""
    ear = Ear()
    codec = H1(ear, LIMITS, client)
    ear.codec = codec
    rule = ""
    if client:
        codec.open_stream()
        codec.head(1, Request("GET", "http", b"a", b"/", []), True)
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)]):
            codec.feed(data[start:end], 1)
            while codec.more and not codec.finished:
                codec.feed(b"", 1)
    except WireError as error:
        rule = error.rule
    if rule in ("", "unasked-bytes"):  # those may come with the response or behind it; both spoil the connection
        ear.words.append(("rest", ear.body))
        rule = ""
    return ear, rule


class Llhttp:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.whole: list = []
        self.body = b""
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None

    def on_message_begin(self):
        self.body = b""

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        parser = self.parser
        name = (
            parser.get_method().decode()
            if isinstance(parser, httptools.HttpRequestParser)
            else parser.get_status_code()
        )
        self.whole.append((name, self.body))


def llhttp(data: bytes, client: bool) -> list:
    """The whole messages llhttp hears."""
    ear = Llhttp()
    ear.parser = httptools.HttpResponseParser(ear) if client else httptools.HttpRequestParser(ear)
    try:
        ear.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    return ear.whole


def first_of_h11(data: bytes, client: bool) -> tuple | None:
    """The first whole message h11 hears, or None."""
    peer = h11.Connection(h11.CLIENT if client else h11.SERVER, max_incomplete_event_size=1 << 20)
    if client:
        peer.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        peer.send(h11.EndOfMessage())
    name: object = None
    body = b""
    try:
        peer.receive_data(data)
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            if isinstance(event, h11.Request):
                name = event.method.decode()
            elif isinstance(event, h11.Response):
                name = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return name, body
    except h11.RemoteProtocolError:
        return None


def llhttp_differs(message: tuple, client: bool, data: bytes) -> bool:
    """llhttp knows only its own methods, stops at upgrades (also in HTTP/1.0, where RFC 9110 section 7.8 has them ignored), and
    refuses `chunked` with a tab behind it (RFC: OWS).
    """
    name, _, special = message
    if special or b"ked\t" in data.lower():
        return True
    if client:  # it also takes `close` in a 1xx for the end of the connection
        return b"pgrade" in data or (b" 10" in data and b"close" in data.lower())
    return name not in KNOWN or (b"/1.0" in data and b"pgrade" in data)


def h11_differs(message: tuple, client: bool, data: bytes) -> bool:
    """h11 refuses an empty line before a request (RFC 9112 2.2: ignore it), and minds what follows `200` alone."""
    return (
        message[2]
        or (not client and data.startswith(b"\r\n"))
        or (client and (b"HTTP/1.1 200\r" in data or b"pgrade" in data))
    )


def check(data: bytes, client: bool, rng: random.Random) -> str:
    """What is wrong with how `data` is heard, or ""."""
    ear, rule = ours(data, client, [])
    for cuts in (list(range(1, len(data))), sorted(rng.sample(range(len(data) + 1), min(4, len(data))))):
        other, other_rule = ours(data, client, cuts)
        if (other.words, other_rule) != (ear.words, rule):
            return f"split at {cuts[:6]}...: {ear.words} {rule!r} became {other.words} {other_rule!r}"
    theirs = None
    for number, message in enumerate(ear.whole):
        if llhttp_differs(message, client, data):
            break
        if theirs is None:
            theirs = llhttp(data, client)
            if client:
                theirs = [m for m in theirs if m[0] >= 200 or m[0] == 101]
        if number >= len(theirs) or theirs[number] != message[:2]:
            return f"llhttp hears {theirs} where we hear {ear.whole}"
    if ear.whole and not h11_differs(ear.whole[0], client, data):
        first = first_of_h11(data, client)
        if first != ear.whole[0][:2]:
            return f"h11 hears {first} where we hear {ear.whole[0]}"
    return ""


def body_of(rng: random.Random, lines: list) -> bytes:
    """A body, and the fields that frame it."""
    kind = rng.random()
    if kind < 0.35:
        return b""
    if kind < 0.6:
        lines.append(b"Content-Length: " + (b"3" if rng.random() < 0.7 else rng.choice(LENGTHS)))
        return b"abc"
    lines.append(b"Transfer-Encoding: " + (b"chunked" if rng.random() < 0.7 else rng.choice(CODINGS)))
    if rng.random() < 0.1:
        lines.append(b"Content-Length: 3")
    strict = rng.random() < 0.6
    chunks = []
    for _ in range(rng.randrange(3)):
        size, end = (b"3", b"\r\n") if strict else (rng.choice(SIZES), rng.choice(ENDS))
        chunks.append(size + end + b"abc" + (b"\r\n" if strict else rng.choice(ENDS)))
    return b"".join(chunks) + b"0" + (b"\r\n" if strict else rng.choice(ENDS)) + rng.choice(TRAILERS) + b"\r\n"


def make(rng: random.Random, client: bool) -> bytes:
    """One or two messages, bent a little."""
    messages = []
    for _ in range(rng.choice([1, 1, 2])):
        lines: list[bytes] = []
        strict = rng.random() < 0.6
        if client:
            version = b"HTTP/1.1" if strict else rng.choice(VERSIONS)
            lines.append(version + b" " + (b"200 OK" if strict else rng.choice(STATUSES)))
        else:
            method, target = (rng.choice(METHODS[:7]), b"/") if strict else (rng.choice(METHODS), rng.choice(TARGETS))
            lines.append(method + b" " + target + b" " + (b"HTTP/1.1" if strict else rng.choice(VERSIONS)))
            if strict or rng.random() < 0.9:
                lines.append(b"Host: a")
        for _ in range(rng.randrange(3)):
            lines.append(rng.choice(FIELDS[:5] if strict else FIELDS))
        body = body_of(rng, lines)
        head, rest = lines[0], lines[1:]
        rng.shuffle(rest)
        end = b"\n" if rng.random() < 0.03 else b"\r\n"
        messages.append(b"".join(line + end for line in [head, *rest]) + end + body)
    data = b"".join(messages)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        data = bend(rng, data)
    return data


def bend(rng: random.Random, data: bytes) -> bytes:
    """One change somewhere."""
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at] + rng.choice(BITS) + data[at:]
    if kind == 1:
        return data[:at] + data[at + rng.randrange(1, 4) :]
    if kind == 2:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 3:
        end = min(len(data), at + rng.randrange(1, 30))
        return data[:end] + data[at:end] + data[end:]
    return data[:at]


def round_trip(rng: random.Random) -> str:
    """Say a request and its answer with one role each, and hear them with the other; "" when they arrive as meant."""
    left, right = Ear(), Talk(rng)
    client, server = H1(left, LIMITS, True), H1(right, LIMITS)
    left.codec, right.codec = client, server
    for _ in range(3):
        body = rng.randbytes(rng.choice([0, 1, 5, 300, 20000]))
        length = rng.choice([-1, len(body)]) if body else 0
        fields = [(b"x-%d" % i, rng.choice([b"", b"a b", b"\xff", b"c" * 50])) for i in range(rng.randrange(4))]
        stream = client.open_stream()
        if not stream:
            return "the client's connection is not reusable"
        method = rng.choice(["GET", "POST", "HEAD", "FOO"])
        client.head(stream, Request(method, "http", b"a", b"/p?q", fields, length=length), not body)
        if body:
            half = rng.randrange(len(body) + 1)
            client.data(stream, body[:half], False)
            client.data(stream, body[half:], True)
        carry(rng, client, server)
        if right.whole[-1][:2] != (method, body):
            return f"{method} with {len(body)} bytes was heard as {right.whole[-1]}"
        carry(rng, server, client)
        meant = b"" if method == "HEAD" or right.status in (204, 304) else right.answer
        if left.whole[-1][:2] != (right.status, meant):
            return (
                f"{right.status} with {len(meant)} bytes was heard as {left.whole[-1][0]} with {len(left.whole[-1][1])}"
            )
    return ""


class Talk(Ear):
    """A server that answers with something different each time."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.status = 0
        self.answer = b""

    def over(self, stream, trailers):
        rng, codec = self.rng, self.codec
        self.whole.append((self.name, self.body, self.special))
        self.status = rng.choice([200, 404, 204, 304, 500])
        self.answer = rng.randbytes(rng.choice([0, 1, 5, 300, 20000]))
        fields = [(b"x", b"y")]
        if rng.random() < 0.5 and self.answer:
            fields.append((b"content-length", b"%d" % len(self.answer)))
        if rng.random() < 0.3:
            codec.inform(stream, 103, [(b"link", b"x")])
        codec.head(stream, Response(self.status, fields), not self.answer)
        if self.answer:
            codec.data(stream, self.answer, True)


def carry(rng: random.Random, source: H1, target: H1) -> None:
    """Bytes from one codec to the other, cut at random."""
    data = b"".join(source.take() or [])
    while data:
        size = rng.choice([1, 7, 100, 5000, len(data)])
        target.feed(data[:size], 1)
        while target.more and not target.finished:
            target.feed(b"", 1)
        data = data[size:]


def run(seconds: float, seed: int, corpus: bool = True) -> list[str]:
    """Check the corpus, then made-up inputs for so long. What went wrong, the first few."""
    rng = random.Random(seed)
    wrong = []
    if corpus:
        for path in sorted(CORPUS.glob("*.bin")):
            problem = check(path.read_bytes(), path.name.startswith("response"), rng)
            if problem:
                wrong.append(f"{path.name}: {problem}")
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until and len(wrong) < 5:
        count += 1
        client = rng.random() < 0.5
        data = make(rng, client)
        problem = check(data, client, rng)
        if problem:
            wrong.append(f"{'response' if client else 'request'} {data!r}: {problem}")
            save(data, client)
        if count % 10 == 0 and (problem := round_trip(rng)):
            wrong.append(f"round trip: {problem}")
    print(f"{count} inputs, {len(wrong)} problems", file=sys.stderr)
    return wrong


def save(data: bytes, client: bool) -> None:
    """Keep an input that failed."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:12]
    (CORPUS / f"{'response' if client else 'request'}-{name}.bin").write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    wrong = run(options.seconds, options.seed)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
