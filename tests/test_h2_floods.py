"""What costs the peer less than us: each flood ends in ENHANCE_YOUR_CALM, with little sent, little heard, little held.

5000 of each come in one read, as in the attacks that were measured against other stacks. The bounds are of what we queue
(the peer may never read) and of what handlers are made to do.
"""

from __future__ import annotations

import sys

import pytest

from h2kit import (
    CALM,
    CANCEL,
    CONTINUATION,
    EH,
    ES,
    GET,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    RST,
    SETTINGS,
    UPDATE,
    Talk,
    block,
    data,
    frame,
    head,
    settings,
    word,
)  # fmt: skip

MANY = 5000
OPEN = head(1, POST, EH)


def odd(count: int) -> range:
    return range(1, 2 * count, 2)


FLOODS = {
    "rapid reset": (b"".join(head(i) + frame(RST, 0, i, word(CANCEL)) for i in odd(MANY)), "reset-flood"),
    "rapid reset with a body": (b"".join(head(i, POST, EH) + frame(RST, 0, i, word(0)) for i in odd(MANY)), "reset-flood"),
    "heads that are broken": (b"".join(head(i, [*GET, (b"X", b"y")]) for i in odd(MANY)), "reset-flood"),
    "made to reset by WINDOW_UPDATE 0": (b"".join(head(i) + frame(UPDATE, 0, i, word(0)) for i in odd(MANY)), "reset-flood"),
    "made to reset by DATA behind the end": (b"".join(head(i) + data(i, b"x") for i in odd(MANY)), "reset-flood"),
    "made to reset by PRIORITY on itself": (
        b"".join(head(i) + frame(PRIORITY, 0, i, word(i) + b"\0") for i in odd(MANY)), "reset-flood",
    ),
    "more streams than allowed": (b"".join(head(i) for i in odd(MANY)), "reset-flood"),
    "RST_STREAM on closed streams": (head(1) + frame(RST, 0, 1, word(8)) * MANY, "reset-flood"),
    "SETTINGS": (frame(SETTINGS, 0, 0) * MANY, "settings-flood"),
    "SETTINGS that change windows": (settings((4, 1), (4, 2), (4, 3)) * MANY, "settings-flood"),
    "PING": (frame(PING, 0, 0, b"12345678") * MANY, "ping-flood"),
    "empty DATA": (OPEN + data(1, b"") * MANY, "empty-flood"),
    "DATA of padding only": (OPEN + frame(0, PADDED, 1, b"\x10" + b"\0" * 16) * MANY, "empty-flood"),
    "empty unknown frames": (frame(99, 0, 0) * MANY, "empty-flood"),
    "WINDOW_UPDATE by one": (OPEN + frame(UPDATE, 0, 1, word(1)) * MANY, "window-flood"),
    "WINDOW_UPDATE of the connection by one": (frame(UPDATE, 0, 0, word(1)) * MANY, "window-flood"),
    "WINDOW_UPDATE on closed streams": (head(1) + frame(RST, 0, 1, word(8)) + frame(UPDATE, 0, 1, word(1)) * MANY, "window-flood"),
    "PRIORITY": (b"".join(frame(PRIORITY, 0, i, word(0) + b"\0") for i in odd(MANY)), "priority-flood"),
    "PRIORITY_UPDATE": (b"".join(frame(PRIORITY_UPDATE, 0, 0, word(i) + b"u=1") for i in odd(MANY)), "priority-flood"),
    "CONTINUATION": (head(1, flags=ES) + frame(CONTINUATION, 0, 1, b"\0\1a\1b") * MANY, "continuation-flood"),
    "empty CONTINUATION": (head(1, flags=ES) + frame(CONTINUATION, 0, 1) * MANY, "continuation-flood"),
    "a block that is too long": (head(1, flags=ES) + frame(CONTINUATION, 0, 1, b"\0" * 16384) * 10, "block-too-long"),
    "1-byte CONTINUATION behind an empty block": (
        frame(HEADERS, ES, 1) + frame(CONTINUATION, 0, 1, b"\0") * MANY, "continuation-flood"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_calmly_and_costs_little(name):
    flood, rule = FLOODS[name]
    talk = Talk()
    talk.peer(flood)
    assert talk.rule == rule
    assert len([word for word in talk.heard() if word[0] == "head"]) <= 300
    sent = talk.sent()
    assert len(sent) <= 33000
    assert sent[-17:] == frame(7, 0, 0, sent[-8:-4] + word(CALM))
    assert talk.codec.deadline() == 0 and len(talk.codec.streams) <= 100


@pytest.mark.parametrize("name", ["PING", "SETTINGS", "rapid reset"])
def test_what_comes_slowly_is_no_flood(name):
    small, count = {
        "PING": (frame(PING, 0, 0, b"12345678"), 90),
        "SETTINGS": (frame(SETTINGS, 0, 0), 9),
        "rapid reset": (b"", 18),
    }[name]
    talk = Talk()
    stream = 1
    for _ in range(100):  # seconds
        for _ in range(count):
            talk.peer(small or head(stream) + frame(RST, 0, stream, word(CANCEL)))
            stream += 2
        talk.sent()
        talk.now += 1_000_000_000
    assert talk.error is None


def test_windows_given_back_for_what_we_sent_are_no_flood():
    def on_head(codec, stream, message):
        Talk.ok(codec, stream, message)

    talk = Talk(on_head=on_head)
    for i in odd(MANY):
        talk.peer(head(i) + frame(UPDATE, 0, 0, word(2)) * 3)
        talk.sent()
    assert talk.error is None


def test_answers_to_a_peer_that_does_not_read_are_bounded():
    talk = Talk(pings=0, settings=0)
    talk.peer(frame(PING, 0, 0, b"12345678") * MANY)
    assert talk.rule == "control-flood" and len(talk.sent()) < 34000
    talk = Talk(pings=0, settings=0)
    for _ in range(MANY):  # and one that reads may go on
        talk.peer(frame(PING, 0, 0, b"12345678"))
        talk.sent()
    assert talk.error is None


def test_a_stream_whose_work_goes_on_is_not_free():
    talk = Talk(streams=3)
    for i in (1, 3):
        talk.peer(head(i) + frame(RST, 0, i, word(CANCEL)))
    talk.codec.abandoned = 2  # as a Connection says whose handlers still work
    talk.peer(head(5) + head(7))
    assert talk.say() == [("RST_STREAM", 7, 7)]
    talk.codec.abandoned = 0
    talk.peer(head(9) + head(11))
    assert talk.error is None and len(talk.codec.streams) == 3


BOMBS = {
    "one entry, referenced 16000 times": b"\x40\x01a\x7f\xa0\x1e" + b"x" * 3999 + b"\xbe" * 12000,
    "a static field, 16000 times": b"\x90" * 16000,
    "size updates": b"\x20\x3f\xe1\x1f" * 4000,
    "a Huffman string of the shortest codes": b"\x00\x01a\xff\x80\x7c" + b"\x00" * 15999,
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_hpack_bomb_is_bounded(name):
    talk = Talk()
    before = sys.getallocatedblocks()
    for i in odd(20):
        talk.peer(frame(HEADERS, EH | ES, i, BOMBS[name]))
        if talk.error is not None:
            break
    assert sys.getallocatedblocks() - before < 3000
    assert not [word for word in talk.heard() if word[0] == "head"]
    assert talk.codec.decoder.size <= 4096 and talk.codec.decoder.total <= 65536
    assert len(talk.sent()) < 2000


def test_a_bomb_in_cookies_is_bounded_too():
    talk = Talk(head=10000)
    talk.peer(frame(HEADERS, EH | ES, 1, block([*GET, *[(b"cookie", b"a=" + b"b" * 100)] * 120])))
    assert talk.heard() == [("refused", 1, "head-too-long")]


def test_the_preface_alone_holds_little():
    before = sys.getallocatedblocks()
    talks = [Talk(greet=False) for _ in range(20)]
    for talk in talks:
        talk.peer(PREFACE + settings())
        talk.sent()
    assert sys.getallocatedblocks() - before < 20 * 140
