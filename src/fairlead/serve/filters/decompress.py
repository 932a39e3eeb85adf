"""`decompress`: request bodies reach the handler as they were before their client compressed them. A step of the journey: decode.

Rules
1. One coding, of those named by `algorithms`; others, and several around each other, get 415 with what would be taken in
   Accept-Encoding (RFC 9110 section 15.5.16).
2. Bombs: no more than one window is decoded ahead of the handler, whatever the body expands to. In all at most `most` bytes, and
   once a megabyte has come out no more than `ratio` times what came in; above either 413. A stream that ends early, or goes on
   behind its end, is 400.
3. The connection is credited for a piece of the body when the handler has taken all that came out of it. What comes while the
   handler's window is full waits as it came: that is no more than the connection's own window.
"""

from __future__ import annotations

from collections import deque

from fairlead.core.errors import FairleadError, Refused, WireError
from fairlead.core.exchange import Intake
from fairlead.core.message import Response
from fairlead.serve.filters.coding import available, decoder

WINDOW = 65536  # decoded bytes that the handler has not taken yet
FREE = 1 << 20  # decoded bytes before the ratio counts


class Decompress:
    """`algorithms`: codings taken; `most`: decoded bytes of one body, 0 for any; `ratio`: most expansion, 0 for any."""

    def __init__(self, algorithms=("gzip", "deflate", "br", "zstd"), most=64 << 20, ratio=100):
        self.names = available(algorithms)
        self.most = most
        self.ratio = ratio

    def before(self, exchange):
        request = exchange.request
        value = b",".join([v for k, v in request.headers if k == b"content-encoding"]).lower()
        names = [part.strip().decode("latin-1") for part in value.split(b",") if part.strip() not in (b"", b"identity")]
        if not names:
            return None
        if len(names) > 1 or ("gzip" if names[0] == "x-gzip" else names[0]) not in self.names:
            text = f"415 a body encoded as {', '.join(names)} is not taken here\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            headers.append((b"accept-encoding", ", ".join(self.names).encode()))
            return Response(415, headers, len(text)), text
        gone = (b"content-encoding", b"content-length")
        request.headers = [field for field in request.headers if field[0] not in gone]
        if request.length:
            request.length = -1
            exchange.intake = Decoding(exchange, decoder(names[0]), self.most, self.ratio)
        return None


class Decoding(Intake):
    """The body stage of one request. `came` and `made` count what went in and out of the decoder."""

    def __init__(self, exchange, coder, most, ratio):
        self.exchange = exchange
        self.coder = coder
        self.most = most
        self.ratio = ratio
        self.came = self.made = 0
        self.held: deque = deque()  # pieces that the decoder has not seen
        self.owed = 0  # decoded bytes that the handler holds
        self.charged = 0  # the peer's bytes behind them, not credited to the connection yet
        self.busy = self.ended = self.closed = False
        self.trailers = None
        self.more = False

    def data(self, chunk, end):
        self.came += len(chunk)
        self.charged += len(chunk)
        self.ended = end
        if chunk:
            self.held.append(chunk)
        if not self.busy:
            self.run()
        return False

    def end(self, trailers):
        self.ended = True
        self.trailers = trailers
        if not self.more and not self.held and not self.owed:
            self.finish()

    def credit(self, count):
        if not count:
            self.exchange.settle(0)  # "I am reading": a 100 Continue may be waiting for it
            return
        self.owed -= count
        if not self.busy:
            self.run()

    def credit_all(self):
        self.credit(self.owed)

    def run(self):
        """Decode until the handler's window is full or nothing is left; then credit the peer, or end."""
        exchange = self.exchange
        self.busy = True
        try:
            while not exchange.over and (self.more or self.held) and self.owed < WINDOW:
                piece = self.decode(b"" if self.more else self.held.popleft())
                self.more = bool(piece)
                if piece:
                    self.owed += len(piece)
                    answer = exchange.answer
                    if answer is None or answer.data(piece, False):
                        self.owed -= len(piece)
        except FairleadError as error:
            self.more = False
            self.held.clear()
            exchange.conn.raised(exchange, error)
        finally:
            self.busy = False
        if self.more or self.held or self.closed:
            return
        if self.ended:
            self.finish()
        elif self.charged and not self.owed:
            count, self.charged = self.charged, 0
            exchange.settle(count)

    def decode(self, chunk):
        """The next decoded piece; b"" when more must come first. Raises what the peer deserves."""
        clock = self.exchange.conn.clock
        began = clock.now()
        try:
            data = self.coder.feed(chunk, WINDOW)
        except Exception as error:
            raise WireError(
                f"the request's body does not decode ({error})", status=400, rule="content-encoding"
            ) from None
        self.exchange.journey.spent_decode += clock.now() - began  # journey
        self.made += len(data)
        if (self.most and self.made > self.most) or (
            self.ratio and self.made > FREE and self.made > self.ratio * self.came
        ):
            raise Refused("the request's body is too large once it is decoded", status=413)
        return data

    def finish(self):
        """The peer's body is over, and so is what we make of it."""
        if self.closed:
            return
        self.closed = True
        exchange = self.exchange
        if exchange.over:
            return
        if not self.coder.over and self.came:
            error = WireError("the request's body ends inside its encoding", status=400, rule="content-encoding")
            exchange.conn.raised(exchange, error)
            return
        answer = exchange.answer
        if answer is not None:
            answer.end(self.trailers)
        count, self.charged = self.charged, 0
        exchange.settle(count)
