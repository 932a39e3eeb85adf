"""Capsules come whole, however their bytes are cut; what is unknown or too long is passed over and never kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.wire.capsules import Capsules, capsule

SOME = st.lists(st.tuples(st.sampled_from([0, 1, 0x2B, 1 << 40]), st.binary(max_size=300)), max_size=8)


@settings(max_examples=100, deadline=None)
@given(sent=SOME, cut=st.integers(1, 100))
def test_they_are_the_same_however_they_are_cut(sent, cut):
    raw = b"".join(capsule(kind, payload) for kind, payload in sent)
    every, datagrams = Capsules(known=None), Capsules()
    heard, some = [], []
    for at in range(0, len(raw), cut):
        heard += every.feed(raw[at : at + cut])
        some += datagrams.feed(raw[at : at + cut])
    assert heard == sent
    assert some == [one for one in sent if one[0] == 0]
    assert every.whole
    assert datagrams.whole


def test_one_that_is_too_long_is_passed_over_and_not_kept():
    capsules = Capsules(most=10)
    raw = capsule(0, b"x" * 100_000) + capsule(0, b"short")
    heard, kept = [], 0
    for at in range(0, len(raw), 1000):
        heard += capsules.feed(raw[at : at + 1000])
        kept = max(kept, len(capsules.rest))
    assert heard == [(0, None), (0, b"short")]
    assert kept < 20


def test_a_tunnel_that_ends_inside_a_capsule_was_cut():
    capsules = Capsules()
    capsules.feed(capsule(0, b"whole") + capsule(0, b"half")[:-1])
    assert not capsules.whole
    capsules = Capsules()
    capsules.feed(capsule(7, b"unknown")[:-1])
    assert not capsules.whole
