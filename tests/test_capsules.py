"""Capsules come whole, however their bytes are cut; what is unknown passes as it comes, what is too long is never kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.wire.capsules import MOST, Split, capsule

SOME = st.lists(st.tuples(st.sampled_from([0, 1, 0x2B, 1 << 40]), st.binary(max_size=300)), max_size=8)


def fed(split, raw, cut):
    """(datagrams, what passed, the most that was kept) of bytes that come in pieces."""
    found, passed, kept = [], b"", 0
    for at in range(0, len(raw), cut):
        more, rest = split.feed(raw[at : at + cut])
        found += more
        passed += rest
        kept = max(kept, len(split.rest))
    return found, passed, kept


@settings(max_examples=100, deadline=None)
@given(sent=SOME, cut=st.integers(1, 100))
def test_they_are_the_same_however_they_are_cut(sent, cut):
    split = Split()
    found, passed, _ = fed(split, b"".join(capsule(kind, payload) for kind, payload in sent), cut)
    assert found == [payload for kind, payload in sent if kind == 0]
    assert passed == b"".join(capsule(kind, payload) for kind, payload in sent if kind != 0)
    assert split.whole


def test_one_that_is_too_long_is_passed_over_and_not_kept():
    split = Split(most=10)
    found, passed, kept = fed(split, capsule(0, b"x" * 100_000) + capsule(0, b"short"), 1000)
    assert (found, passed, split.dropped) == ([b"short"], b"", 1)
    assert kept < 20


def test_what_is_unknown_is_not_kept():
    split = Split()
    raw = capsule(7, b"x" * 100_000)
    assert fed(split, raw, 1000)[1:] == (raw, 0)


def test_a_tunnel_that_ends_inside_a_capsule_was_cut():
    split = Split()
    split.feed(capsule(0, b"whole") + capsule(0, b"half")[:-1])
    assert not split.whole
    split = Split()
    split.feed(capsule(7, b"unknown")[:-1])
    assert not split.whole


def test_a_capsule_byte_by_byte_is_added_to_and_not_copied_each_time():
    split, raw = Split(), capsule(0, bytes(MOST))
    split.feed(raw[:20])
    kept = split.rest
    for at in range(20, len(raw) - 1):
        assert split.feed(raw[at : at + 1]) == ([], b"")
        assert split.rest is kept
    assert split.feed(raw[-1:]) == ([bytes(MOST)], b"") and split.whole
