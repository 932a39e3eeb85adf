"""The checker finds what is wrong: each anomaly from a history that has it, and none in one that is right."""

import pytest

from fairlead.store.contract import Offset
from fairlead.store.suite.history import Acked, Claimed, Final, Left, Poll, Put, Told, Write, judge


def at(seq, epoch=1):
    return Offset(epoch, seq)


def ok(value, seq, epoch=1):
    return Write("t", value, "ok", at(seq, epoch))


def poll(*pairs, reader="r"):
    return Poll(reader, "t", tuple((at(seq), value) for seq, value in pairs))


def final(*pairs, first=0, epoch=1):
    return Final("t", at(first, epoch), tuple((at(seq, epoch), value) for seq, value in pairs))


def kinds(*history):
    return sorted({one.kind for one in judge(history)})


def test_a_right_history_has_nothing_wrong():
    history = [
        ok("a", 1), ok("b", 2), Write("t", "c", "unknown"), Write("t", "d", "fail"), ok("e", 4),
        poll((1, "a")), poll((2, "b"), (3, "c"), (4, "e")), poll((1, "a"), (2, "b"), reader="s"),
        Told("s", "t", at(3)), poll((4, "e"), reader="s"),
        final((1, "a"), (2, "b"), (3, "c"), (4, "e")),
    ]  # fmt: skip
    assert judge(history) == []


@pytest.mark.parametrize(
    ("kind", "history"),
    [
        ("lost-write", [ok("a", 1), ok("b", 2), final((2, "b"))]),
        ("lost-write", [ok("a", 1), ok("b", 2), final((1, "a"))]),
        ("told-loss", [ok("a", 1), ok("b", 2), final((2, "b"), first=1)]),
        ("told-loss", [ok("a", 1), final((1, "b"), epoch=2)]),
        ("duplicate", [ok("a", 1), final((1, "a"), (2, "a"))]),
        ("duplicate", [Write("t", "a", "unknown"), poll((1, "a")), poll((2, "a"))]),
        ("inconsistent-offset", [ok("a", 1), ok("b", 1)]),
        ("inconsistent-offset", [ok("a", 1), poll((1, "b"))]),
        ("inconsistent-offset", [ok("a", 1), final((2, "a"))]),
        ("inconsistent-offset", [poll((1, "a")), poll((1, "b"), reader="s")]),
        ("poll-skip", [ok("b", 2), poll((1, "a"), (3, "c"))]),
        ("poll-skip", [poll((1, "a"), (2, "b"), (3, "c"), reader="s"), poll((1, "a")), poll((3, "c"))]),
        ("nonmonotonic-poll", [poll((1, "a"), (2, "b")), poll((2, "b"))]),
        ("nonmonotonic-poll", [poll((2, "b"), (1, "a"))]),
        ("aborted-read", [Write("t", "a", "fail"), poll((1, "a"))]),
    ],
)
def test_what_is_wrong_with_a_topic_is_found(kind, history):
    assert kind in kinds(*history)


def test_an_unknown_write_may_be_there_or_not():
    assert kinds(Write("t", "a", "unknown"), final()) == []
    assert kinds(Write("t", "a", "unknown"), final((1, "a"))) == []


def test_a_gap_that_was_told_is_no_skip():
    assert kinds(ok("b", 2), poll((1, "a")), Told("r", "t", at(2)), poll((3, "c"))) == []


def test_topics_are_judged_apart():
    assert judge([Write("t", "a", "ok", at(1)), Write("u", "b", "ok", at(1))]) == []


def claim(fence, begun, item="i"):
    return Claimed("q", item, fence, begun, begun + 1)


def ack(fence, begun, item="i"):
    return Acked("q", item, fence, begun, begun + 1)


def test_a_right_queue_has_nothing_wrong():
    history = [Put("q", "i"), claim(1, 0), claim(2, 5), ack(2, 7), Put("q", "j"), Put("q", "k")]
    assert judge([*history, Left("q", frozenset({"j"}), frozenset({"k"}))]) == []


def test_an_ack_and_a_claim_that_overlap_prove_nothing():
    assert judge([claim(1, 0), claim(2, 5.0), ack(1, 5.5)]) == []


@pytest.mark.parametrize(
    ("kind", "history"),
    [
        ("lost-item", [Put("q", "i"), Left("q", frozenset())]),
        ("lost-item", [Put("q", "i"), claim(1, 0), Left("q", frozenset({"j"}))]),
        ("resurrected", [Put("q", "i"), claim(1, 0), ack(1, 2), claim(2, 9)]),
        ("fence-broken", [claim(1, 0), claim(2, 2), ack(1, 4)]),
        ("fence-broken", [claim(2, 0), claim(1, 2)]),
        ("fence-broken", [claim(2, 0), claim(2, 2)]),
    ],
)
def test_what_is_wrong_with_a_queue_is_found(kind, history):
    assert kind in kinds(*history)
