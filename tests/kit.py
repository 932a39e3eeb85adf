"""What tests of codecs share: a clock to set, a sink that writes down what it hears, and transcripts.

A transcript reads like the talk it tests, and runs with the peer's bytes whole, one by one, and in uneven pieces:

    t = kit.Transcript(server, split)
    t.peer(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert t.heard() == [("head", 1, "GET /"), ("end", 1, None)]
    t.codec.head(1, Response(204, []), True)
    assert t.sent().startswith(b"HTTP/1.1 204")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fairlead.core.codec import Codec, Sink
from fairlead.core.errors import WireError
from fairlead.core.journey import Clock as BaseClock
from fairlead.core.message import Request

SECOND = 1_000_000_000
SPLITS = ("whole", "bytes", "uneven")


class Clock(BaseClock):
    """A clock that shows what it is told: `clock.time` in ns."""

    def __init__(self, time: int = SECOND) -> None:
        self.time = time

    def now(self) -> int:
        return self.time

    def pass_(self, seconds: float) -> int:
        """Time goes on; the new time."""
        self.time += int(seconds * SECOND)
        return self.time


class Recorder(Sink):
    """Writes down every word. `words` joins body pieces, so that it does not depend on how bytes were split.

    `on_head(codec, stream, message)`, if given, is called from inside each final head, as a handler would be.
    `credit`: body bytes are credited at once, as by a reader that takes everything. `pieces` counts calls of `data`.
    """

    def __init__(self, credit: bool = True) -> None:
        self._words: list[tuple] = []
        self._body: list[bytes] = []  # pieces that the last word, of a body, does not have yet
        self.messages: list = []
        self.codec: Codec | None = None
        self.on_head: Callable | None = None
        self.credit = credit
        self.pieces = 0

    @property
    def words(self) -> list[tuple]:
        """What was heard so far; the list itself, which may be changed."""
        if self._body:
            word, stream, begun = self._words[-1]
            self._words[-1] = (word, stream, b"".join([begun, *self._body]))
            self._body = []
        return self._words

    @words.setter
    def words(self, words: list[tuple]) -> None:
        self._words, self._body = words, []

    def head(self, stream: int, message: object, end: bool) -> None:
        self.messages.append(message)
        if isinstance(message, Request):
            self.words.append(("head", stream, f"{message.method} {message.target.decode('latin-1')}"))
        else:
            self.words.append(("head", stream, message.status))  # type: ignore[attr-defined]
        if end:
            self.words.append(("end", stream, None))
        if self.on_head is not None:
            self.on_head(self.codec, stream, message)

    def inform(self, stream: int, status: int, headers: list) -> None:
        self.words.append(("inform", stream, status))

    def data(self, stream: int, chunk: bytes, end: bool) -> None:
        assert type(chunk) is bytes and (chunk or end)
        self.pieces += 1
        if self._words and self._words[-1][:2] == ("body", stream):
            self._body.append(chunk)  # joined when somebody looks: a large body has very many
        else:
            self.words.append(("body", stream, chunk))
        if end:
            self.words.append(("end", stream, None))
        if self.credit and self.codec is not None:
            self.codec.consumed(stream, len(chunk))

    def end(self, stream: int, trailers: list | None) -> None:
        self.words.append(("end", stream, trailers))

    def reset(self, stream: int, why: Exception, side: str) -> None:
        self.words.append(("reset", stream, side))

    def room(self, stream: int) -> None:
        self.words.append(("room", stream))

    def refused(self, stream: int, why: WireError) -> None:  # type: ignore[override]
        self.words.append(("refused", stream, why.rule))

    def goaway(self, last: int) -> None:
        self.words.append(("goaway", last))


class Transcript:
    """A talk with one codec. `make(sink)` makes it; `split` is one of SPLITS. Times are explicit: `now`, in ns."""

    def __init__(self, make: Callable[[Recorder], Codec], split: str = "whole", credit: bool = True) -> None:
        self.sink = Recorder(credit)
        self.codec = make(self.sink)
        self.sink.codec = self.codec
        self.split = split
        self.now = SECOND
        self.codec.now = self.now
        self.error: WireError | None = None

    def peer(self, data: bytes) -> Transcript:
        """The peer sends bytes. An error is kept in `error`, and nothing more is fed after it."""
        for piece in pieces(data, self.split):
            if self.error is not None or self.codec.finished:
                break
            self.feed(piece)
        return self

    def feed(self, piece: bytes) -> None:
        """One feed, and as many as `more` asks for, as a carrier does it."""
        try:
            self.codec.feed(piece, self.now)
            while self.codec.more and not self.codec.finished and not self.codec.multiplexed:  # there `take` comes first
                self.codec.feed(b"", self.now)
        except WireError as error:
            self.error = error

    def go_on(self) -> Transcript:
        """What a carrier does after something was said: feed what is buffered."""
        if self.codec.more:
            self.feed(b"")
        return self

    def eof(self) -> Transcript:
        """The peer closes its side."""
        try:
            self.codec.eof(self.now)
        except WireError as error:
            self.error = error
        return self

    def heard(self) -> list[tuple]:
        """What the sink heard since the last look."""
        words = self.sink.words
        self.sink.words = []
        return words

    def sent(self) -> bytes:
        """What the codec wants to send since the last look."""
        return b"".join(self.codec.take() or [])

    @property
    def rule(self) -> str:
        """The name of the rule that was broken, or ""."""
        return self.error.rule if self.error is not None else ""


def pieces(data: bytes, split: str) -> Iterator[bytes]:
    """`data` cut: whole, byte by byte, or in pieces of 1, 2, 3, 5, 8 ... bytes."""
    if split == "whole":
        yield data
    elif split == "bytes":
        for i in range(len(data)):
            yield data[i : i + 1]
    else:
        at, size, following = 0, 1, 2
        while at < len(data):
            yield data[at : at + size]
            at += size
            size, following = (following, size + following) if size < 100 else (1, 2)
