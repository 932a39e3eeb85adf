"""Raw sockets for judging HTTP/1.1: what was said byte for byte, and a recording origin. Shares no code with ours.

`talk` says bytes and returns all that came back until the peer closed. `answers` cuts that into responses by RFC 9112
section 6. `Origin` is a raw server that writes down every request exactly as its framing says, refuses to guess, and
answers what its `scripts` say; whatever does not parse strictly is kept in `odd`.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PATIENCE = 10.0


@dataclass
class Said:
    """One message as it was on the wire."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool = True
    raw: bytes = b""

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(b" ")[1])

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a field."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        return next(iter(self.all(name)), None)


def connect(port: int, timeout: float = PATIENCE) -> socket.socket:
    """A client's socket."""
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def talk(port: int, raw: bytes | Sequence[bytes], half_close: bool = False) -> bytes:
    """Say `raw` (in one or several writes), read until the peer closes. TimeoutError when it does not."""
    with connect(port) as sock:
        try:
            for piece in [raw] if isinstance(raw, bytes) else raw:
                sock.sendall(piece)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed before it had heard all: what it said counts
        return rest(sock)


def rest(sock: socket.socket) -> bytes:
    """All that still comes, until the end; a reset counts as an end."""
    found = []
    try:
        while chunk := sock.recv(65536):
            found.append(chunk)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return b"".join(found)


def until(sock: socket.socket, enough: Callable[[bytes], object]) -> bytes:
    """What comes until `enough` of it is there."""
    found = b""
    while not enough(found):
        chunk = sock.recv(65536)
        assert chunk, f"the peer closed after {found!r}"
        found += chunk
    return found


def head_of(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], int] | None:
    """(start line, fields, where the body starts), strictly; None while not whole; ValueError when it is wrong."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return None
    start, *lines = raw[:end].split(b"\r\n")
    headers = []
    for line in (start, *lines):
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(f"a control byte in {line!r}")
    for line in lines:
        found = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", line, re.S)
        if not found:
            raise ValueError(f"no field line: {line!r}")
        headers.append((found[1].lower(), found[2]))
    return start, headers, end + 4


def framing(headers: list[tuple[bytes, bytes]]) -> int | str:
    """A length, "chunked", or "none"; ValueError when it is said twice or in two ways."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise ValueError(f"framed more than once: {lengths} {codings}")
    if codings:
        if codings[0].lower() != b"chunked":
            raise ValueError(f"unknown coding {codings[0]!r}")
        return "chunked"
    if lengths:
        if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise ValueError(f"no length: {lengths[0]!r}")
        return int(lengths[0])
    return "none"


def chunked(raw: bytes, at: int) -> tuple[bytes, int] | None:
    """(body, its end) of a chunked body at `at`; None while it is not whole; ValueError when it is wrong."""
    body = b""
    while True:
        end = raw.find(b"\r\n", at)
        if end < 0:
            return None
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}(;[^\r\n]*)?", raw[at:end]):
            raise ValueError(f"no chunk size: {raw[at:end][:80]!r}")
        size = int(raw[at:end].split(b";")[0], 16)
        at = end + 2
        if size == 0:
            tail = raw[at:]
            if tail.startswith(b"\r\n"):
                return body, at + 2
            end = tail.find(b"\r\n\r\n")
            return (body, at + end + 4) if end >= 0 else None
        if len(raw) < at + size + 2:
            return None
        if raw[at + size : at + size + 2] != b"\r\n":
            raise ValueError("a chunk does not end in CRLF")
        body += raw[at : at + size]
        at += size + 2


def answers(raw: bytes, *methods: str) -> list[Said]:
    """The responses in what a server said on one connection (closed by now), 1xx among them, and nothing else."""
    found: list[Said] = []
    asked = [*methods] or ["GET"] * 99
    while raw:
        head = head_of(raw)
        assert head is not None, f"half a head: {raw[:200]!r}"
        start, headers, at = head
        assert re.fullmatch(rb"HTTP/1\.1 [1-9][0-9][0-9] [\t -~\x80-\xff]*", start), start
        status = int(start.split(b" ")[1])
        if 100 <= status < 200:
            found.append(Said(start, headers, b"", raw=raw[:at]))
            raw = raw[at:]
            continue
        assert asked, f"an answer nobody asked for: {raw[:200]!r}"
        method, framed = asked.pop(0), framing(headers)
        whole, end = True, at
        if method == "HEAD" or status in (204, 304):
            body = b""
            assert framed != "chunked" or status != 204, "a 204 with a transfer coding"
        elif framed == "chunked":
            got = chunked(raw, at)
            whole = got is not None
            body, end = got or (raw[at:], len(raw))
        elif framed == "none":
            body, end = raw[at:], len(raw)
        else:
            body, end = raw[at : at + int(framed)], min(len(raw), at + int(framed))
            whole = len(body) == framed
        found.append(Said(start, headers, body, whole, raw[:end]))
        raw = raw[end:]
    return found


def finals(raw: bytes, *methods: str) -> list[Said]:
    """The answers without the interim ones."""
    return [one for one in answers(raw, *methods) if one.status >= 200]


@dataclass
class Seen:
    """What one connection to the origin brought."""

    requests: list[Said] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    left: bytes = b""
    over: bool = False


CLOSE = b"\0close"  # in a script: close the connection here
STALL = b"\0stall"  # in a script: say nothing more, keep it open until the peer leaves
RESET = b"\0reset"  # in a script: end with a reset
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """A raw origin on a free port. `scripts`: target -> pieces to say to it, by default a plain 200."""

    def __init__(self) -> None:
        self.scripts: dict[bytes, list[bytes]] = {}
        self.upgrades: dict[bytes, list[bytes]] = {}
        self.seen: list[Seen] = []
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self.sock.getsockname()[1])
        self.closed = False
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self.closed = True
        self.sock.close()

    @property
    def requests(self) -> list[Said]:
        """Every whole request, connection by connection."""
        return [request for seen in self.seen for request in seen.requests]

    @property
    def odd(self) -> list[str]:
        """All that was not a strictly framed request."""
        return [text for seen in self.seen for text in seen.odd]

    def forget(self) -> None:
        """Forget what was seen on connections that are over, and the requests on those that are not."""
        for seen in self.seen:
            seen.requests, seen.odd = [], []
        self.seen = [seen for seen in self.seen if not seen.over]

    def accept(self) -> None:
        while not self.closed:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            seen = Seen()
            self.seen.append(seen)
            threading.Thread(target=self.serve, args=(sock, seen), daemon=True).start()

    def serve(self, sock: socket.socket, seen: Seen) -> None:
        sock.settimeout(60)
        try:
            with sock:
                while self.one(sock, seen):
                    pass
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError):
                seen.odd.append(str(error))
        finally:
            seen.over = True

    def one(self, sock: socket.socket, seen: Seen) -> bool:
        """Hear one request whole, answer it. False at the end of the connection."""
        while (request := self.cut(seen)) is None:
            chunk = sock.recv(65536)
            if not chunk:
                return False
            seen.left += chunk
        seen.requests.append(request)
        target = request.start.split(b" ")[1]
        for piece in self.scripts.get(target, [OK]):
            if piece == CLOSE:
                return False
            if piece == STALL:
                seen.left += rest(sock)
                return False
            if piece == RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return False
            sock.sendall(piece)
        if target in self.upgrades:
            self.tunnel(sock, seen)
            return False
        return True

    def cut(self, seen: Seen) -> Said | None:
        """The first request in what came; its bytes are taken away."""
        head = head_of(seen.left)
        if head is None:
            return None
        start, headers, at = head
        if not re.fullmatch(rb"[A-Za-z]+ [!-~]+ HTTP/1\.[01]", start):
            raise ValueError(f"no request line: {start!r}")
        framed = framing(headers)
        if framed == "chunked":
            got = chunked(seen.left, at)
            if got is None:
                return None
            body, end = got
        else:
            size = 0 if framed == "none" else int(framed)
            if len(seen.left) < at + size:
                return None
            body, end = seen.left[at : at + size], at + size
        request = Said(start, headers, body, True, seen.left[:end])
        seen.left = seen.left[end:]
        return request

    def tunnel(self, sock: socket.socket, seen: Seen) -> None:
        """Echo bytes in capitals after an upgrade."""
        chunk = seen.left
        while True:
            if chunk:
                sock.sendall(chunk.upper())
            chunk = sock.recv(65536)
            if not chunk:
                return


def poll(condition: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """Until `condition` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
