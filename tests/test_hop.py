"""The hop codec: transcripts of a front and a worker on one link, in both roles, whole and byte by byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.errors import AppError, NetError, WireError
from fairlead.core.limits import Limits
from fairlead.core.message import Request, Response
from fairlead.wire import _plain
from fairlead.wire.hop import Hop
from fairlead.wire.hopwords import Letter
from kit import SECOND, SPLITS, Recorder, pieces

try:
    from fairlead.wire import _fast
except ImportError:
    _fast = _plain

GET = "GET"
REQUEST, ANSWER, INFORM, DATA, END, RESET, CREDIT, GRANT, GOAWAY, FD = range(1, 11)  # as the codec's docstring says
DOWN, UP, CLAIMS = 65536, 262144, 64


class Link:
    """A front and a worker with a wire between them that cuts what passes into pieces."""

    def __init__(self, split: str = "whole", credit: bool = True, claims=None) -> None:
        self.split = split
        self.front_sink, self.worker_sink = Recorder(credit), Recorder(credit)
        self.front = Hop(self.front_sink, Limits(), True, claims)
        self.worker = Hop(self.worker_sink, Limits(), False, claims)
        self.front_sink.codec, self.worker_sink.codec = self.front, self.worker
        self.now = SECOND

    def ask(self, method=GET, target=b"/", headers=(), length=0, end=True, expect=False, upgrade=b"", app=7) -> int:
        """The front says a request; its stream."""
        stream = self.front.open_stream()
        request = Request(method, "http", b"host", target, list(headers), "1.1", length)
        request.path, request.raw_path = target.decode(), target
        request.expect, request.upgrade = expect, upgrade
        letter = Letter()
        letter.begin(app, b"id-1", self.front.memory.ends(("127.0.0.1", 5), ("127.0.0.1", 80), None))
        self.front.letter = letter
        self.front.head(stream, request, end)
        return stream

    def pump(self) -> None:
        """Everything said arrives, back and forth."""
        while self.down() or self.up():
            pass

    def down(self) -> bool:
        return carry(self.front, self.worker, self.split, self.now)

    def up(self) -> bool:
        return carry(self.worker, self.front, self.split, self.now)

    def worker_heard(self):
        self.pump()
        words, self.worker_sink.words = self.worker_sink.words, []
        return words

    def front_heard(self):
        self.pump()
        words, self.front_sink.words = self.front_sink.words, []
        return words


def carry(source, target, split, now) -> bool:
    sent = b"".join(source.take() or [])
    for piece in pieces(sent, split):
        target.feed(piece, now)
    return bool(sent)


@pytest.fixture(params=SPLITS)
def link(request):
    return Link(request.param)


def test_a_request_arrives_as_it_was_said(link):
    stream = link.ask("POST", b"/a%20b?c=d", [(b"x-a", b"1"), (b"x-a", b"")], 3, False)
    link.front.data(stream, b"abc", True)
    seen = []

    def look(codec, stream, message):
        seen.extend((codec.arriving.app, codec.arriving.tag, codec.arriving.ends))

    link.worker_sink.on_head = look
    assert link.worker_heard() == [("head", 1, "POST /a%20b?c=d"), ("body", 1, b"abc"), ("end", 1, None)]
    got = link.worker_sink.messages[0]
    assert got.headers == [(b"x-a", b"1"), (b"x-a", b"")]
    assert (got.scheme, got.authority, got.version, got.length) == ("http", b"host", "1.1", 3)
    assert seen[:2] == [7, b"id-1"]
    ends = link.worker.memory.read_ends(seen[2])
    assert (ends.peer, ends.local, ends.client) == (("127.0.0.1", 5), ("127.0.0.1", 80), None)


def test_a_whole_answer_is_one_frame(link):
    stream = link.ask()
    assert link.worker_heard() == [("head", 1, "GET /"), ("end", 1, None)]
    link.worker.head(stream, Response(201, [(b"a", b"b")], 5, b"Made"), False)
    link.worker.data(stream, b"hello", True)
    sent = b"".join(link.worker.take())
    assert len(sent) == 24 + int.from_bytes(sent[:4], "little") and sent[4] == ANSWER
    link.front.feed(sent, link.now)
    assert link.front_heard() == [("head", 1, 201), ("body", 1, b"hello"), ("end", 1, None)]
    message = link.front_sink.messages[0]
    assert (message.headers, message.length, message.reason) == ([(b"a", b"b")], 5, b"Made")
    assert not link.front.streams and not link.worker.streams


def test_an_answer_in_pieces_with_an_interim_head_and_trailers(link):
    stream = link.ask()
    link.pump()
    link.worker.inform(stream, 103, [(b"link", b"</a>")])
    link.worker.head(stream, Response(200, []), False)
    link.worker.data(stream, b"one", False)
    link.pump()
    link.worker.data(stream, b"two", False)
    link.worker.end(stream, [(b"t", b"1")])
    assert link.front_heard() == [("inform", 1, 103), ("head", 1, 200), ("body", 1, b"onetwo"), ("end", 1, [(b"t", b"1")])]
    assert not link.front.streams and not link.worker.streams


def test_answers_come_in_any_order(link):
    streams = [link.ask() for _ in range(3)]
    link.pump()
    for stream in reversed(streams):
        link.worker.head(stream, Response(200, [], 1), False)
        link.worker.data(stream, b"%d" % stream, True)
    heads = [word[1] for word in link.front_heard() if word[0] == "head"]
    assert heads == [3, 2, 1]


def test_go_on_is_asked_by_the_first_credit(link):
    stream = link.ask("POST", length=3, end=False, expect=True)
    link.pump()
    assert link.worker_sink.messages[0].expect
    assert link.front_heard() == []
    link.worker.consumed(stream, 0)
    link.worker.consumed(stream, 0)
    assert link.front_heard() == [("inform", 1, 100)]


def test_nothing_is_sent_beyond_the_window_and_room_is_heard_after_credit(link):
    link.front_sink.credit = False
    stream = link.ask()
    link.pump()
    link.worker.head(stream, Response(200, []), False)
    assert link.worker.data(stream, b"x" * (UP - 1), False)
    assert not link.worker.data(stream, b"yy", False)
    link.pump()
    assert link.front_heard() == [("head", 1, 200), ("body", 1, b"x" * (UP - 1) + b"y")]
    assert link.worker_heard()[2:] == []
    link.front.consumed(stream, UP)
    assert link.worker_heard() == [("room", 1)]
    assert link.front_heard() == [("body", 1, b"y")]
    assert link.worker.data(stream, b"z", True)
    assert link.front_heard() == [("body", 1, b"z"), ("end", 1, None)]


def test_a_stalled_stream_does_not_stop_another(link):
    link.worker_sink.credit = False
    slow, quick = link.ask("POST", length=-1, end=False), link.ask("POST", length=-1, end=False)
    link.front.data(slow, b"s" * DOWN * 2, False)
    link.front.data(quick, b"q" * 10, True)
    words = link.worker_heard()
    assert ("body", quick, b"q" * 10) in words and ("body", slow, b"s" * DOWN) in words


def test_a_reset_says_why_and_which_side(link):
    stream = link.ask("POST", length=-1, end=False)
    link.pump()
    link.front.reset(stream, NetError("gone", step="receive", status=499), "read")
    assert link.worker_heard()[1:] == [("reset", 1, "read")]
    link.worker.reset(stream, AppError("it raised", hint="mend it"), "both")
    assert link.front_heard() == [("reset", 1, "both")]
    assert not link.front.streams and not link.worker.streams
    link.front.reset(stream, NetError("late"), "both")
    assert link.worker_heard() == []


@pytest.mark.parametrize("why", [AppError("a", hint="h"), NetError("n", step="send", status=499, side="peer")], ids=["app", "net"])
def test_the_error_of_a_reset_is_the_same_on_the_other_side(why):
    link = Link()
    stream = link.ask()
    link.pump()
    heard = []
    link.front_sink.reset = lambda stream, again, side: heard.append(again)
    link.worker.reset(stream, why, "both")
    link.pump()
    (again,) = heard
    assert (type(again), str(again), again.hint, again.status) == (type(why), str(why), why.hint, why.status)


def test_grants_ride_with_answers_and_go_alone_when_the_front_may_wait(link):
    first = link.ask()
    link.pump()
    assert link.front.begun == 0
    assert link.worker.start(first)
    link.pump()
    assert link.front.begun == first
    link.worker.window = 8
    streams = [link.ask() for _ in range(3)]
    link.pump()
    link.worker.start(streams[0])
    link.worker.told_window = 8
    link.worker.start(streams[1])
    link.worker.head(streams[0], Response(204, []), True)
    link.pump()
    assert link.front.begun == streams[1]


def test_goodbye_finishes_what_is_open_and_then_the_link(link):
    stream = link.ask()
    link.pump()
    link.worker.goaway(-1)
    link.pump()
    assert link.front.open_stream() == 0 and not link.front.finished
    link.worker.head(stream, Response(204, []), True)
    link.pump()
    assert link.front.finished and link.worker.finished


def test_a_cut_link_is_an_error_only_while_something_is_open(link):
    link.ask()
    link.pump()
    with pytest.raises(WireError):
        link.front.eof(link.now)
    idle = Link()
    idle.front.eof(idle.now)
    assert idle.front.finished


# ---- what the other protocols need


def test_a_websocket_over_http_1_is_a_tunnel_with_two_ends(link):
    stream = link.ask(upgrade=b"websocket")
    assert link.worker_heard() == [("head", 1, "GET /"), ("end", 1, None)]
    link.worker.head(stream, Response(101, [(b"upgrade", b"websocket")]), False)
    assert link.worker.tunnel
    assert link.front_heard() == [("head", 1, 101)]
    assert link.front.tunnel
    link.front.data(stream, b"\x81\x80", False)
    link.worker.data(stream, b"\x82\x00", False)
    assert link.worker_heard() == [("body", 1, b"\x81\x80")]
    assert link.front_heard() == [("body", 1, b"\x82\x00")]
    link.front.end(stream, None)
    assert link.worker_heard() == [("end", 1, None)]
    link.worker.data(stream, b"after", False)
    link.worker.end(stream, None)
    assert link.front_heard() == [("body", 1, b"after"), ("end", 1, None)]
    assert not link.front.streams and not link.worker.streams


def test_an_extended_connect_of_h2_or_h3_is_a_tunnel(link):
    stream = link.ask("CONNECT", length=-1, end=False)
    assert link.worker_heard() == [("head", 1, "CONNECT /")]
    link.worker.head(stream, Response(200, []), False)
    assert link.front_heard() == [("head", 1, 200)]
    link.front.data(stream, b"a", False)
    link.worker.data(stream, b"b", False)
    assert link.worker_heard() == [("body", 1, b"a")] and link.front_heard() == [("body", 1, b"b")]
    link.worker.end(stream, None)
    assert link.front_heard() == [("end", 1, None)]
    link.front.data(stream, b"c", True)
    assert link.worker_heard() == [("body", 1, b"c"), ("end", 1, None)]


def test_a_refused_upgrade_is_an_ordinary_answer(link):
    stream = link.ask(upgrade=b"websocket")
    link.pump()
    link.worker.head(stream, Response(200, [], 2), False)
    link.worker.data(stream, b"no", True)
    assert not link.worker.tunnel and not link.front.tunnel
    assert not link.worker.streams


# ---- strictness


def frame(kind, flags=0, aux=0, extra=0, stream=1, parts=None, fields=None, body=b""):
    return _plain.hop_frame(kind, flags, aux, extra, stream, parts, fields, body)


@pytest.mark.parametrize(
    "role, raw",
    {
        "a kind that is none": ("worker", frame(99)),
        "an answer said to a worker": ("worker", frame(ANSWER, aux=200, parts=[b"\0" * 32, b"", b"", b""], fields=[])),
        "a request said to a front": ("front", frame(REQUEST)),
        "a block that does not add up": ("worker", frame(REQUEST, parts=[b"abc"], fields=[])[:-1] + b""),
        "a request without parts": ("worker", frame(REQUEST)),
        "stream nought": ("worker", frame(REQUEST, stream=0, parts=[b""] * 11, fields=[])),
        "a grant of what is not there": ("front", frame(GRANT, aux=1, stream=5)),
        "a window too large": ("front", frame(GRANT, aux=1000, stream=0)),
        "a window of nought": ("front", frame(GRANT, aux=0, stream=0)),
        "credit for the link that was not used": ("front", frame(CREDIT, extra=1, stream=0)),
        "a block longer than its frame": ("worker", b"\x01\0\0\0\x01\0\0\0" + b"\x01" + b"\0" * 7 + b"\xff\0\0\0" + b"\0" * 4),
        "a descriptor that did not come": ("worker", frame(FD)),
        "a body where none may be": ("worker", frame(RESET, body=b"x")),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_that_breaks_a_rule_ends_the_link(role, raw):
    link = Link()
    codec = getattr(link, role)
    with pytest.raises(WireError) as caught:
        codec.feed(raw, link.now)
        codec.feed(b"\0" * 24, link.now)
    assert caught.value.status == 0


def test_body_beyond_the_window_ends_the_link():
    link = Link(credit=False)
    link.ask("POST", length=-1, end=False)
    link.pump()
    with pytest.raises(WireError):
        link.worker.feed(frame(DATA, stream=1, body=b"x" * (DOWN + 1)), link.now)


def test_body_bytes_with_an_empty_block_are_body_bytes():
    link = Link()
    link.ask()
    link.down()
    link.front.feed(frame(ANSWER, aux=200, parts=[b"\0" * 32, b"", b"", b""], fields=[]), SECOND)
    link.front.feed(frame(DATA, parts=[], fields=[], body=b"x"), SECOND)
    assert link.front_sink.words[-1] == ("body", 1, b"x")


def test_frames_of_a_stream_that_is_over_are_ignored():
    link = Link()
    link.ask()
    link.pump()
    link.worker.head(1, Response(204, []), True)
    link.pump()
    link.front.feed(frame(DATA, stream=1, body=b"late") + frame(RESET, stream=1, parts=[b""] * 5, fields=[]), link.now)
    link.worker.feed(frame(CREDIT, stream=1, extra=5), link.now)
    assert link.front_heard()[2:] == []


# ---- claims


def test_of_worker_and_front_one_gets_the_request():
    link = Link(claims=(_fast.Words(bytearray(8 * CLAIMS)), 0, 3))
    taken, begun = link.ask(), link.ask()
    link.front.send_claim(taken)
    link.front.send_claim(begun)
    link.pump()
    assert link.front.take_back(taken) and not link.worker.start(taken)
    assert link.worker.start(begun) and not link.front.take_back(begun)
    assert not link.front.take_back(taken) and link.worker.start(begun) and not link.front.take_back(begun)


# ---- many streams at once


class Many(Link):
    """Both ends keep what they heard of each stream; `credit` says what a reader does with body bytes."""

    def __init__(self, split: str) -> None:
        super().__init__(split, credit=False)
        self.said: dict[tuple[str, int], bytes] = {}
        self.owed: dict[tuple[str, int], int] = {}
        self.full: set[tuple[str, int]] = set()
        self.over: set[int] = set()

    def say(self, side: str, stream: int, count: int) -> None:
        """Some body bytes, unless the writer was told to wait."""
        if (side, stream) in self.full or stream in self.over:
            return
        chunk = bytes([stream % 251]) * count
        self.said[side, stream] = self.said.get((side, stream), b"") + chunk
        if not getattr(self, side).data(stream, chunk, False):
            self.full.add((side, stream))

    def hear(self) -> dict[tuple[str, int], bytes]:
        """Everything arrives; what each side heard by now, by who said it."""
        self.pump()
        heard: dict[tuple[str, int], bytes] = {}
        for side, sink in (("front", self.worker_sink), ("worker", self.front_sink)):
            for word in sink.words:
                if word[0] == "body":
                    heard[side, word[1]] = heard.get((side, word[1]), b"") + word[2]
        for side, sink in (("front", self.front_sink), ("worker", self.worker_sink)):
            self.full -= {(side, word[1]) for word in sink.words if word[0] == "room"}
            sink.words = [word for word in sink.words if word[0] != "room"]
        return heard

    def credit(self, heard: dict[tuple[str, int], bytes], side: str, stream: int) -> None:
        """The reader of a stream takes what came."""
        done = self.owed.get((side, stream), 0)
        more = len(heard.get((side, stream), b"")) - done
        if more:
            self.owed[side, stream] = done + more
            (self.worker if side == "front" else self.front).consumed(stream, more)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("open", "front", "worker", "take front", "take worker", "end", "reset")),
        st.integers(0, 7), st.sampled_from((1, 100, 5000, 40_000)),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from(("whole", "uneven")))
def test_bytes_of_many_streams_come_in_order_to_the_right_one_and_never_beyond_a_window(steps, split):
    link = Many(split)
    live: list[int] = []
    for what, which, count in steps:
        stream = live[which % len(live)] if live else 0
        if what == "open":
            live.append(link.ask("POST", length=-1, end=False))
            link.pump()
            link.worker.head(live[-1], Response(200, []), False)
        elif not live:
            continue
        elif what in ("front", "worker"):
            link.say(what, stream, count)
        elif what.startswith("take"):
            link.credit(link.hear(), what[5:], stream)
        elif what == "reset":
            link.front.reset(stream, NetError("left", step="receive", status=499), "both")
            live.remove(stream)
        else:
            link.front.end(stream, None)
            link.worker.end(stream, None)
            link.over.add(stream)
    for key, heard in link.hear().items():
        assert link.said[key].startswith(heard)
        assert len(heard) - link.owed.get(key, 0) <= (DOWN if key[0] == "front" else UP)
    for _ in range(40):  # readers take all that comes: then all that was said arrives
        heard = link.hear()
        for side in ("front", "worker"):
            for stream in live:
                link.credit(heard, side, stream)
    for stream in live:
        for side in ("front", "worker"):
            assert link.hear().get((side, stream), b"") == link.said.get((side, stream), b"")
