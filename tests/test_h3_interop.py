"""Our HTTP/3 against the layers of aioquic and qh3, in memory and both ways: whatever is said arrives, however it is cut.

The QUIC between them is a list of bytes for each stream. Theirs uses QPACK's dynamic table, ours is asked for it.
"""

from __future__ import annotations

import aioquic.h3.connection
import aioquic.h3.events
import aioquic.quic.events
import pytest
import qh3.h3.connection
import qh3.h3.events
import qh3.quic.events
from hypothesis import given, settings
from hypothesis import strategies as st

import kit
from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire.h3 import H3
from messages import CUTS, MESSAGE

LIBRARIES = {"aioquic": aioquic, "qh3": qh3}


class Quic:
    """What a QUIC connection is to their HTTP/3 layer."""

    def __init__(self, client: bool) -> None:
        self.configuration = type("Configuration", (), {"is_client": client, "quic_logger": None})()
        self._quic_logger = None
        self._remote_max_datagram_frame_size = 65536
        self.next = {False: 0 if client else 1, True: 2 if client else 3}
        self.sent: list[tuple[int, bytes, bool]] = []
        self.datagrams: list[bytes] = []
        self.closed: tuple | None = None

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        stream = self.next[is_unidirectional]
        self.next[is_unidirectional] += 4
        return stream

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self.sent.append((stream_id, data, end_stream))

    def send_datagram_frame(self, data: bytes) -> None:
        self.datagrams.append(data)

    def close(self, error_code: int = 0, frame_type: object = None, reason_phrase: str = "") -> None:
        self.closed = (error_code, reason_phrase)


class Pair:
    """One of ours and one of theirs, and the streams between them, cut as the test likes."""

    def __init__(self, library: str, client: bool, cuts: list[int], table: int = 4096) -> None:
        self.module = LIBRARIES[library]
        self.sink = kit.Recorder()
        self.ours = self.sink.codec = H3(self.sink, Limits(outgoing=1 << 30, qpack_table=table), client=client)
        self.opened = {False: 0, True: 2 if client else 3}
        self.ours.opener = self.open
        self.quic = Quic(not client)
        self.theirs = self.module.h3.connection.H3Connection(self.quic)
        self.cuts = cuts
        self.events: list = []
        self.orders: list[tuple] = []
        self.fed = 0
        self.credited = 0
        self.now = kit.SECOND

    def open(self, unidirectional: bool) -> int:
        stream = self.opened[unidirectional]
        self.opened[unidirectional] += 4
        return stream

    def pieces(self, raw: bytes, fin: bool):
        for size in self.cuts:
            if len(raw) > size:
                yield raw[:size], False
                raw = raw[size:]
        yield raw, fin

    def run(self) -> None:
        """Until nobody has anything to say."""
        received = self.module.quic.events.StreamDataReceived
        for _ in range(10000):
            sent = self.ours.take() or []
            for stream, raw, fin in sent:
                for piece, last in self.pieces(raw, fin):
                    event = received(data=piece, end_stream=last, stream_id=stream)
                    self.events += self.theirs.handle_event(event)
            back, self.quic.sent = self.quic.sent, []
            for stream, raw, fin in back:
                for piece, last in self.pieces(raw, fin):
                    self.now += 1000
                    self.fed += len(piece)
                    self.ours.feed(piece, self.now, stream, last)
            self.orders += self.ours.orders()
            self.credited += sum(count for _, count in self.ours.credit())
            if not sent and not back and not self.ours.more:
                assert self.quic.closed is None, self.quic.closed
                return
        raise AssertionError("they never stop")

    def heard_by_them(self, stream: int) -> tuple:
        """(fields, body, trailers, ended) of a stream, as they tell it."""
        heads, body, ended = [], b"", False
        for event in self.events:
            if event.stream_id != stream:
                continue
            if type(event).__name__ in ("HeadersReceived", "InformationalHeadersReceived"):
                heads.append(list(event.headers))
            elif type(event).__name__ == "DataReceived":
                body += event.data
            ended = ended or getattr(event, "stream_ended", False)
        return heads, body, ended


def body_of(words: list[tuple], number: int) -> bytes:
    return b"".join(word[2] for word in words if word[:2] == ("body", number))


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=25, deadline=None)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=4), cuts=CUTS, table=st.sampled_from([0, 256, 4096]))
def test_their_client_and_our_server(library, messages, cuts, table):
    pair = Pair(library, False, cuts, table)
    pair.run()
    for i, (fields, body, trailers) in enumerate(messages):
        stream = pair.quic.get_next_available_stream_id()
        assert stream == 4 * i
        asked = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/x"), *fields]
        pair.theirs.send_headers(stream, asked, not body and trailers is None)
        for at, chunk in enumerate(body):
            pair.theirs.send_data(stream, chunk, at == len(body) - 1 and trailers is None)
        if trailers is not None:
            pair.theirs.send_headers(stream, trailers, True)
    pair.run()
    words = pair.sink.words
    for i, (fields, body, trailers) in enumerate(messages):
        number = 4 * i + 1
        assert ("head", number, "POST /x") in words
        assert (
            pair.sink.messages[[w for w in words if w[0] == "head"].index(("head", number, "POST /x"))].headers[1:]
            == fields
        )
        assert body_of(words, number) == b"".join(body)
        assert [w for w in words if w[:2] == ("end", number)] == [("end", number, trailers)]
    assert pair.credited == pair.fed, "every byte that came is credited once"
    for i, (fields, body, trailers) in enumerate(messages):
        number = 4 * i + 1
        pair.ours.inform(number, 103, [(b"link", b"</a>")])
        pair.ours.head(number, Response(200, list(fields)), False)
        for chunk in body:
            pair.ours.data(number, chunk, False)
        pair.ours.end(number, trailers)
    pair.run()
    for i, (fields, body, trailers) in enumerate(messages):
        heads, got, ended = pair.heard_by_them(4 * i)
        assert [(b":status", b"103"), (b"link", b"</a>")] in heads
        assert [(b":status", b"200"), *fields] in heads
        assert got == b"".join(body)
        assert trailers is None or heads[-1] == trailers
        assert ended
    assert not pair.ours.streams
    assert pair.orders == []


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=25, deadline=None)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=4), cuts=CUTS)
def test_our_client_and_their_server(library, messages, cuts):
    pair = Pair(library, True, cuts)
    pair.run()
    for fields, body, trailers in messages:
        number = pair.ours.open_stream()
        pair.ours.head(number, Request("PUT", "https", b"a", b"/y", list(fields)), False)
        for chunk in body:
            pair.ours.data(number, chunk, False)
        pair.ours.end(number, trailers)
    pair.run()
    for i, (fields, body, trailers) in enumerate(messages):
        heads, got, ended = pair.heard_by_them(4 * i)
        assert heads[0][:4] == [(b":method", b"PUT"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/y")]
        assert heads[0][4:] == fields
        assert got == b"".join(body)
        assert ended
        assert trailers is None or heads[-1] == trailers
        pair.theirs.send_headers(4 * i, [(b":status", b"200"), *fields], False)
        for chunk in body:
            pair.theirs.send_data(4 * i, chunk, False)
        if trailers is None:
            pair.theirs.send_data(4 * i, b"", True)
        else:
            pair.theirs.send_headers(4 * i, trailers, True)
    pair.run()
    for i, (fields, body, trailers) in enumerate(messages):
        number = 4 * i + 1
        assert pair.sink.messages[i].headers == fields
        assert body_of(pair.sink.words, number) == b"".join(body)
        assert [w for w in pair.sink.words if w[:2] == ("end", number)] == [("end", number, trailers)]
    assert not pair.ours.streams
    assert pair.credited == pair.fed


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_datagram_finds_its_stream(library):
    pair = Pair(library, False, [])
    pair.run()
    stream = pair.quic.get_next_available_stream_id()
    pair.theirs.send_headers(
        stream, [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
    )
    pair.run()
    found = []
    pair.ours.on_datagram = lambda number, payload: found.append((number, payload))
    pair.theirs.send_datagram(0, b"hello")
    pair.ours.datagram(pair.quic.datagrams[0], pair.now)
    assert found == [(1, b"hello")]
    assert pair.ours.say_datagram(1, b"and back") == pair.ours.datagrams
