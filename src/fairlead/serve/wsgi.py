"""A WSGI application (PEP 3333) as a Handler: each request is a job in a lane of threads (serve/blocking).

Rules
1. A thread is given when the body is whole, or 64 KiB of it are there: slow clients hold no thread. A body that is
   whole is a BytesIO, and has a CONTENT_LENGTH even if it came in chunks; a longer one is read as it comes, and credited
   as it is read. Either ends by itself (`wsgi.input_terminated`), so chunked bodies work. A client that waits for 100
   Continue gets it by the first read, or at once when half of the threads are busy.
2. A whole answer (a list of one block, or one block of the declared length) goes back to the loop as one word. A longer one is
   streamed; the thread waits while more than `WINDOW` bytes have not found room, so a slow client costs no memory.
3. `start_response` may be called again only with `exc_info`, and raises that when the head is out. The head leaves with the
   first block that is not empty. `write()` sends at once. `close()` of the iterable is always called, in the thread.
4. What the application gets wrong is an AppError that names it: a 500 while the head is not out, else the connection is reset.
   A client that left makes the next read or write raise `Disconnected` (an OSError); a request whose client left while it
   waited for a thread is not begun.
5. Names with "_" and `Proxy` are left out of the environment: they would pass for others there (httpoxy, header aliasing).
6. The journey's `queue` step is the wait for a thread.
A Call is used by the loop and by one thread. What one writes the other only reads: `pushed` and `waiter` are the thread's,
`taken`, `gone` and the input are the loop's; `chunks` is a deque.
"""

# mypy: disable-error-code="union-attr,index,var-annotated"

from __future__ import annotations

import io
import sys
import threading
from collections import deque
from urllib.parse import unquote_to_bytes

from fairlead.core.errors import AppError, Refused
from fairlead.core.exchange import Answer
from fairlead.core.handler import Handler
from fairlead.core.message import Response, is_event_stream
from fairlead.serve.app import Disconnected, is_disconnect
from fairlead.serve.blocking import PATIENCE, Job
from fairlead.serve.errorpage import debug_page

SMALL = 65536  # body bytes collected before a thread is given
WINDOW = 262144  # answer bytes that may be on their way from the thread to the client
BLOCK = 65536  # read at once from a file that is an answer
NAMES_KEPT = 512
CREDIT, WHOLE, CHUNK, LAST, FAILED = 0, 1, 2, 3, 4
SPECIAL = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
PROTOCOLS = {"1.1": "HTTP/1.1", "1.0": "HTTP/1.0", "2": "HTTP/2", "3": "HTTP/3"}


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an answer, read in blocks in the thread. Closes the file if it can be closed."""

    def __init__(self, filelike, blksize=8192):
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(max(self.blksize, BLOCK))
        if data:
            return data
        raise StopIteration


class Wsgi(Handler):
    """`Wsgi(target, lane)`. `strip` is a path prefix that becomes SCRIPT_NAME and is not in PATH_INFO."""

    def __init__(self, target, lane, *, name="app", strip="", multithread=True, multiprocess=True, pool=None, holding=None):
        self.target = target
        self.lane = lane
        self.pool = pool
        self.name = name
        self.strip = strip.rstrip("/")
        self.names = {}
        self.statuses = {}
        self.fields = {}
        self.calls = set()
        self.holding = holding
        self.last_local = None
        self.server_name = self.server_port = ""
        self.base = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "", "QUERY_STRING": "", "RAW_URI": "",
            "REQUEST_URI": "", "SERVER_NAME": "", "SERVER_PORT": "", "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "fairlead", "REMOTE_ADDR": "", "REMOTE_PORT": "", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.input": None, "wsgi.errors": sys.stderr, "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess, "wsgi.run_once": False, "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }  # fmt: skip

    @property
    def running(self):
        """How many requests wait for a thread or are in one."""
        return len(self.calls)

    def close(self):
        """The worker ends, or no route has this application any more."""
        if self.pool is not None:
            self.pool.remove(self.lane)

    def open(self, exchange):
        call = Call.__new__(Call)
        call.begin(self, exchange)
        call.environ = self.environ(exchange)
        exchange.answer = call
        self.calls.add(call)
        if exchange.heard_end:
            call.body_over = True
            call.submit()
        elif exchange.request.expect and 2 * self.lane.busy < self.lane.most:
            call.submit()
        else:
            call.gathering = True
            if exchange.request.expect:
                exchange.credit(0)

    def environ(self, exchange):
        """The environment of a request, without its input."""
        request = exchange.request
        env = self.base.copy()
        env["REQUEST_METHOD"] = request.method
        raw = request.raw_path
        path = raw.decode("latin-1") if b"%" not in raw else unquote_to_bytes(raw).decode("latin-1")
        if self.strip and (path == self.strip or path.startswith(self.strip + "/")):
            env["SCRIPT_NAME"] = self.strip
            path = path[len(self.strip) :]
        env["PATH_INFO"] = path
        if request.query:
            env["QUERY_STRING"] = request.query.decode("latin-1")
        env["RAW_URI"] = env["REQUEST_URI"] = request.target.decode("latin-1")
        if request.version != "1.1":
            env["SERVER_PROTOCOL"] = PROTOCOLS.get(request.version, "HTTP/1.1")
        if request.scheme != "http":
            env["wsgi.url_scheme"] = request.scheme
            env["HTTPS"] = "on"
        env["fairlead.journey"] = exchange.journey
        self.ends(exchange, env)
        for key, value in request.headers:
            name = self.names.get(key)
            if name is None:
                name = self.name_of(key)
            if name:
                text = value.decode("latin-1")
                if name in env:
                    text = env[name] + (";" if key == b"cookie" else ",") + text
                env[name] = text
        return env

    def ends(self, exchange, env):
        """Who speaks with whom: the client as a trusted peer says, and our own address."""
        conn = exchange.conn
        client = conn.peer if exchange.client is None else exchange.client
        if type(client) is tuple:
            env["REMOTE_ADDR"] = client[0]
            env["REMOTE_PORT"] = str(client[1])
        local = conn.local
        if local is not self.last_local:
            self.last_local = local
            if type(local) is tuple:
                self.server_name, self.server_port = local[0], str(local[1])
            else:
                self.server_name, self.server_port = "localhost", "80"
        env["SERVER_NAME"] = self.server_name
        env["SERVER_PORT"] = self.server_port

    def name_of(self, key):
        """The variable of a header; "" for one that is left out (rule 5)."""
        if key in SPECIAL:
            name = SPECIAL[key]
        elif b"_" in key or key == b"proxy":
            name = ""
        else:
            name = "HTTP_" + key.decode("latin-1").upper().replace("-", "_")
        if len(self.names) < NAMES_KEPT:
            self.names[key] = name
        return name

    def status_of(self, status):
        """(code, reason) of a status line such as "200 OK"."""
        if type(status) is not str:
            raise AppError(f"start_response got a status of type {type(status).__name__}", hint='as in "200 OK"')
        code, reason = status[:3], status[4:]
        if not (code.isascii() and code.isdigit()) or (len(status) > 3 and status[3] != " ") or int(code) < 200:
            raise AppError(f"start_response got the status {status!r}"[:120], hint='three digits and words: "200 OK"')
        found = (int(code), reason.encode("latin-1", "replace"))
        if len(self.statuses) < NAMES_KEPT:
            self.statuses[status] = found
        return found

    def field_of(self, name):
        """The name of an answer's field as bytes in lower case; b"" for framing, which is the connection's."""
        if type(name) is not str:
            raise AppError(f"start_response got a header name of type {type(name).__name__}", hint="names are text")
        try:
            found = name.lower().encode("ascii")
        except UnicodeEncodeError:
            raise AppError(f"start_response got the header name {name!r}"[:120], hint="names are ASCII") from None
        if found in (b"transfer-encoding", b"keep-alive"):
            found = b""
        if len(self.fields) < NAMES_KEPT:
            self.fields[name] = found
        return found


class Call(Answer):
    """One request of a Wsgi: the Answer of its exchange, and by its Work the job in a thread."""

    def begin(self, app, exchange):
        """In place of a constructor."""
        self.app = app
        self.exchange = exchange
        self.environ = None
        self.response = None
        self.chunks = deque()
        self.held = self.started = 0
        self.pushed = self.taken = self.behind = 0
        self.left = -1
        self.waiter = None
        self.body_over = self.gone = self.complete = self.gathering = False
        self.sent = self.out = self.bodiless = False
        self.work = self.held_by = None

    def submit(self):
        """Ask for a thread."""
        self.gathering = False
        work = Work.__new__(Work)
        work.call = self
        self.work = work
        if self.body_over:
            self.environ["wsgi.input"] = io.BytesIO(b"".join(self.chunks)) if self.held else io.BytesIO()
            if self.exchange.request.length < 0:  # now it is known: there are frameworks that read no body without it
                self.environ["CONTENT_LENGTH"] = str(self.held)
                self.environ.pop("HTTP_TRANSFER_ENCODING", None)
        else:
            self.environ["wsgi.input"] = io.BufferedReader(Body(self, b"".join(self.chunks)), SMALL)
        self.chunks.clear()
        if not self.app.lane.put(work):
            self.over()
            raise Refused("all threads are busy and the queue is full; try again shortly", status=503, after=1)

    # ---- the exchange speaks (on the loop)

    def data(self, chunk, end):
        if self.complete:
            return True
        if end:
            self.body_over = True
        if self.gathering:
            self.chunks.append(chunk)
            self.held += len(chunk)
            if end or self.held >= SMALL:
                self.submit()
            return True
        if chunk:
            self.chunks.append(chunk)
        self.wake()
        return not chunk

    def end(self, trailers):
        self.body_over = True
        if self.gathering:
            self.submit()
        self.wake()

    def reset(self, why, side):
        if side != "read":
            self.gone = True
            self.over()
            self.wake()

    def room(self):
        self.taken += self.behind
        self.behind = 0
        self.wake()

    def farewell(self):
        """An event stream ends cleanly, and its client comes again."""
        if self.out and not self.complete and not self.bodiless and is_event_stream(self.response):
            self.exchange.end(None)
            self.finished()

    def wake(self):
        """The thread may go on, if it waits."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            waiter.release()

    # ---- words of the thread (on the loop)

    def hear(self, word, value):
        """What the thread said. What the connection refuses of it is the application's mistake."""
        exchange = self.exchange
        if not exchange.journey.started:
            exchange.journey.started = self.started
        if word == CREDIT:
            if not exchange.over:
                exchange.credit(value)
            return
        if word == FAILED:
            self.broken(value)
            return
        if self.complete or exchange.over:
            self.gone = True
            self.wake()
            return
        try:
            if self.held_by is not None:
                self.hold()
            elif word == WHOLE:
                exchange.whole(self.response, value)
                self.finished()
            elif word == CHUNK:
                self.chunk(value)
            elif word == LAST:
                if not self.out:
                    exchange.head(self.response, True)
                elif not self.bodiless:
                    exchange.end(None)
                self.finished()
        except Exception as error:
            self.broken(error)

    def hold(self):
        """The application hands its connection to a topic (`serve.hold`); what it sends as a body is thrown away."""
        hold = self.app.holding.field(self.held_by, self.response.headers)
        self.app.holding.hold(self.exchange, hold)
        self.gone = True
        self.finished()

    def chunk(self, value):
        """A block of the answer, behind the head if it is the first."""
        exchange = self.exchange
        if not self.out:
            self.out = True
            exchange.head(self.response, self.bodiless)
        count = len(value)
        if self.bodiless:
            self.taken += count
        elif exchange.data(value, False):
            self.taken += count + self.behind
            self.behind = 0
        else:
            self.behind += count
            return
        self.wake()

    def finished(self):
        """The answer is complete: reads and writes of the thread are over."""
        self.complete = True
        self.over()
        self.wake()

    def broken(self, error):
        """The application raised, or broke a rule."""
        exchange = self.exchange
        conn = exchange.conn
        quiet = self.gone and is_disconnect(error)
        if not quiet:
            conn.service.observer.broke(exchange, error)
        if not self.complete and not exchange.over:
            self.complete = True
            if isinstance(error, AppError):
                why = AppError(str(error), hint=error.hint)
            else:
                why = AppError(f"{type(error).__name__} was raised by the application")
            if conn.service.debug and not exchange.said_head:
                response, body = debug_page(exchange, error)
                exchange.error = why
                exchange.whole(response, body)
            else:
                exchange.fail(why)
        self.gone = True
        self.over()
        self.wake()

    def over(self):
        """Nobody needs us any more but the thread."""
        self.app.calls.discard(self)

    # ---- the application speaks (in the thread)

    def start_response(self, status, headers, exc_info=None):
        """WSGI's `start_response`; see rule 3. Returns `write`."""
        if exc_info:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.response is not None:
            raise AppError("the app called start_response twice", hint="a second call needs exc_info")
        known = self.app.statuses.get(status) if type(status) is str else None
        code, reason = known if known is not None else self.app.status_of(status)
        self.left = -1
        self.held_by = None
        fields = []
        known = self.app.fields
        for name, value in headers:
            field = known.get(name)
            if field is None:
                field = self.app.field_of(name)
            if type(value) is not str:
                raise AppError(f"start_response got a value of type {type(value).__name__} for {name}", hint="text")
            if field == b"content-length":
                self.left = length_of(value)
            elif field == b"fairlead-hold" and self.app.holding is not None and code < 300:
                self.held_by = value.encode("latin-1")
                continue
            if field:
                fields.append((field, value.encode("latin-1")))
        response = Response.__new__(Response)
        response.status = code
        response.headers = fields
        response.length = self.left
        response.version = "1.1"
        response.reason = reason
        response.upgrade = b""
        response.trailers = None
        self.bodiless = code == 204 or code == 304 or self.exchange.request.method == "HEAD"
        self.response = response
        return self.write

    def write(self, data):
        """What `start_response` returns: sends a block at once."""
        self.push(block_of(data))

    def push(self, data):
        """A block of the answer; waits while too much is on its way."""
        if self.response is None:
            raise AppError("the app sent a body before it called start_response", hint="call start_response first")
        if self.gone:
            raise Disconnected()
        count = len(data)
        if not count:
            return
        if self.left >= 0 and not self.bodiless:
            self.left -= count
            if self.left < 0:
                raise AppError(
                    f"the app sent more than its content-length of {self.response.length} bytes",
                    hint="send as many as it says, or no content-length",
                )
        self.sent = True
        self.pushed += count
        self.app.lane.say(self.work, CHUNK, data, True)
        while self.pushed - self.taken > WINDOW:
            waiter = self.expect()
            if self.pushed - self.taken > WINDOW and not self.gone:
                waiter.acquire()
            if self.gone:
                raise Disconnected()

    def credit(self, count):
        """`count` bytes of the body were read; 0: somebody reads."""
        self.app.lane.say(self.work, CREDIT, count, True)

    def expect(self):
        """A lock that `wake` opens; look again before waiting for it."""
        waiter = threading.Lock()
        waiter.acquire()
        self.waiter = waiter
        return waiter

    def run(self):
        """The application's turn, and what it gives back."""
        result = None
        if self.gone:
            return
        self.started = self.work.started
        try:
            result = self.app.target(self.environ, self.start_response)
            self.answer(result)
        except BaseException as error:
            self.app.lane.say(self.work, FAILED, error, True)
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self.app.lane.say(self.work, FAILED, error, True)
        self.environ = None
        self.work = None  # else they would keep each other

    def answer(self, result):
        """Send what the application returned."""
        if (type(result) is list or type(result) is tuple) and len(result) == 1 and not self.sent:
            self.whole(block_of(result[0]))
            return
        for item in result:
            data = block_of(item)
            if data and not self.sent and self.response is not None and self.left == len(data):
                self.whole(data)
            elif data:
                if self.complete_already():
                    raise AppError(
                        f"the app sent more than its content-length of {self.response.length} bytes",
                        hint="send as many as it says, or no content-length",
                    )
                self.push(data)
        if self.response is None:
            raise AppError("the app returned without calling start_response", hint="call it before the first block")
        if not self.sent:
            self.whole(b"")
        elif not self.complete_already():
            self.last()

    def complete_already(self):
        """Was the answer sent as one whole?"""
        return self.pushed < 0

    def whole(self, data):
        """The whole answer in one word."""
        if self.response is None:
            raise AppError("the app returned without calling start_response", hint="call it before returning")
        count = len(data)
        if not self.bodiless:
            if self.left < 0:
                self.response.length = count
            elif self.left != count:
                raise AppError(
                    f"the app sent {count} bytes with a content-length of {self.left}",
                    hint="send as many as it says, or no content-length",
                )
        else:
            data = b""
        self.sent = True
        self.pushed = -1
        conn = self.exchange.conn
        self.app.lane.say(self.work, WHOLE, data, conn.clock.now() - self.started > PATIENCE)

    def last(self):
        """The end of a streamed answer."""
        if self.left > 0 and not self.bodiless:
            raise AppError(
                f"the app sent {self.response.length - self.left} bytes of its content-length of {self.response.length}",
                hint="send as many as it says, or no content-length",
            )
        self.app.lane.say(self.work, LAST, None, True)


class Work(Job):
    """A Call's way through a lane: a compiled class has one base, and a Call's is Answer."""

    def __init__(self, call):
        self.call = call

    def run(self):
        call = self.call
        call.run()

    def hear(self, word, value):
        call = self.call
        call.hear(word, value)


class Body(io.RawIOBase):
    """The request's body as it comes, for io.BufferedReader. Read in the thread."""

    def __init__(self, call, rest=b""):
        self.call = call
        self.rest = rest  # what was collected before there was a thread; it is credited already

    def readable(self):
        """Yes."""
        return True

    def readinto(self, buffer):
        """The next bytes; 0 at the end of the body. Raises Disconnected when there will be no end."""
        call = self.call
        asked = False
        while not self.rest:
            if call.chunks:
                self.rest = call.chunks.popleft()
                call.credit(len(self.rest))
            elif call.body_over:
                return 0
            elif call.gone or call.complete:
                raise Disconnected("the client closed the connection before the request's body was whole")
            else:
                if not asked:
                    asked = True
                    call.credit(0)
                waiter = call.expect()
                if not (call.chunks or call.body_over or call.gone or call.complete):
                    waiter.acquire()
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


def block_of(data):
    """A block of an answer: bytes, and nothing else (PEP 3333)."""
    if type(data) is bytes:
        return data
    if isinstance(data, (bytearray, memoryview, bytes)):
        return bytes(data)
    raise AppError(f"the app sent a block of type {type(data).__name__}", hint="encode text first; a block is bytes")


def length_of(value):
    """A content-length as a number."""
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise AppError(f"the app sent content-length {value!r}"[:100], hint="it is a number of bytes")
    return int(value)
