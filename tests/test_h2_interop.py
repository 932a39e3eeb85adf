"""Our HTTP/2 against the `h2` library, in memory and both ways: whatever is said arrives, however the bytes are cut."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

import kit
from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire.h2 import H2
from messages import CUTS, MESSAGE


class Pair:
    """One of ours and one of theirs, and the wire between them, which cuts as it likes."""

    def __init__(self, client: bool, cuts: list[int], window: int) -> None:
        self.sink = kit.Recorder()
        limits = Limits(outgoing=1 << 30)
        self.ours = self.sink.codec = H2(self.sink, limits, client=client)
        self.theirs = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=not client, header_encoding=None)
        )
        self.theirs.local_settings = h2.settings.Settings(
            client=not client, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.theirs.initiate_connection()
        self.cuts = cuts
        self.events: list[h2.events.Event] = []
        self.now = kit.SECOND

    def pieces(self, raw: bytes):
        for size in self.cuts:
            yield raw[:size]
            raw = raw[size:]
        yield raw

    def run(self) -> None:
        """Until nobody has anything to say."""
        for _ in range(10000):
            sent = b"".join(self.ours.take() or [])
            for piece in self.pieces(sent):
                self.hear(piece)
            back = self.theirs.data_to_send()
            for piece in self.pieces(back):
                if piece:
                    self.now += 1000
                    self.ours.feed(piece, self.now)
            if not sent and not back and not self.ours.more:
                return
        raise AssertionError("they never stop")

    def hear(self, piece: bytes) -> None:
        for event in self.theirs.receive_data(piece) if piece else ():
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def flush_theirs(self, stream: int, body: bytes) -> None:
        """Send a body of theirs as its windows allow."""
        while body:
            room = min(self.theirs.local_flow_control_window(stream), 16384)
            if room:
                self.theirs.send_data(stream, body[:room])
                body = body[room:]
            self.run()


def body_of(words: list[tuple], stream: int) -> bytes:
    return b"".join(word[2] for word in words if word[:2] == ("body", stream))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(MESSAGE, MESSAGE), min_size=1, max_size=4), CUTS, st.sampled_from([1000, 65535, 1 << 20]))
def test_our_server_and_their_client(talks, cuts, window):
    pair = Pair(False, cuts, window)
    streams = []
    for (fields, body, trailers), _ in talks:
        stream = pair.theirs.get_next_available_stream_id()
        streams.append(stream)
        head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/p")]
        whole = b"".join(body)
        pair.theirs.send_headers(stream, head + fields, end_stream=False)
        pair.flush_theirs(stream, whole)
        if trailers:
            pair.theirs.send_headers(stream, trailers, end_stream=True)
        else:
            pair.theirs.end_stream(stream)
    pair.run()
    words = list(pair.sink.words)
    for stream, message, ((fields, body, trailers), (answer, said, last)) in zip(
        streams, pair.sink.messages, talks, strict=True
    ):
        assert message.headers == [(b"host", b"a.example"), *fields]
        assert body_of(words, stream) == b"".join(body)
        assert [word[2] for word in words if word[:2] == ("end", stream)] == [trailers]
        pair.ours.head(stream, Response(200, list(answer), -1), False)
        for chunk in said:
            pair.ours.data(stream, chunk, False)
        pair.ours.end(stream, last)
    pair.run()
    for stream, (_, (answer, said, last)) in zip(streams, talks, strict=True):
        events = [event for event in pair.events if getattr(event, "stream_id", None) == stream]
        (head,) = [event for event in events if isinstance(event, h2.events.ResponseReceived)]
        assert head.headers[0] == (b":status", b"200") and head.headers[1 : 1 + len(answer)] == answer
        assert b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived)) == b"".join(said)
        got = [event.headers for event in events if isinstance(event, h2.events.TrailersReceived)]
        assert got == ([last] if last else [])
        assert [event for event in events if isinstance(event, h2.events.StreamEnded)]
    assert pair.ours.streams == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(MESSAGE, MESSAGE), min_size=1, max_size=4), CUTS, st.sampled_from([1000, 65535, 1 << 20]))
def test_our_client_and_their_server(talks, cuts, window):
    pair = Pair(True, cuts, window)
    pair.run()
    streams = []
    for (fields, body, trailers), _ in talks:
        stream = pair.ours.open_stream()
        streams.append(stream)
        pair.ours.head(stream, Request("POST", "https", b"a.example", b"/p", list(fields), "1.1", -1), False)
        for chunk in body:
            pair.ours.data(stream, chunk, False)
        pair.ours.end(stream, trailers)
    pair.run()
    for stream, ((fields, body, trailers), _) in zip(streams, talks, strict=True):
        events = [event for event in pair.events if getattr(event, "stream_id", None) == stream]
        (head,) = [event for event in events if isinstance(event, h2.events.RequestReceived)]
        assert head.headers[4:] == fields
        assert b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived)) == b"".join(body)
        got = [event.headers for event in events if isinstance(event, h2.events.TrailersReceived)]
        assert got == ([trailers] if trailers else [])
    for stream, (_, (answer, said, last)) in zip(streams, talks, strict=True):
        pair.theirs.send_headers(stream, [(b":status", b"200"), *answer], end_stream=False)
        pair.flush_theirs(stream, b"".join(said))
        if last:
            pair.theirs.send_headers(stream, last, end_stream=True)
        else:
            pair.theirs.end_stream(stream)
    pair.run()
    words = pair.sink.words
    for stream, message, (_, (answer, said, last)) in zip(streams, pair.sink.messages, talks, strict=True):
        assert message.status == 200 and message.headers == answer
        assert body_of(words, stream) == b"".join(said)
        assert [word[2] for word in words if word[:2] == ("end", stream)] == [last]
    assert pair.ours.streams == {} and pair.ours.reusable
