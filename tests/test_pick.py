"""Balancing policies, by table: candidates and draws in, a choice out."""
# ruff: noqa: E501

from collections import Counter
from random import Random

import pytest

from fairlead.serve import pick
from fairlead.serve.pick import Candidate


def crew(*weights, busy=()):
    """Candidates a, b, c, ... with weights and requests in flight."""
    found = [Candidate("abcdefgh"[i], weight) for i, weight in enumerate(weights)]
    for candidate, count in zip(found, busy):
        candidate.busy = count
    return found


def names(candidates, policy, count, **options):
    picker = pick.picker(policy, Random(7))
    return "".join(picker.pick(candidates, b"", 0).name for _ in range(count))


def test_weighted_turns_are_spread_smoothly():
    assert names(crew(5, 1, 1), "weighted", 7) == "aabacaa"


def test_round_robin_takes_turns():
    assert names(crew(1, 1, 1), "round-robin", 6) == "abcabc"


def test_weight_zero_gets_nothing_while_another_has_weight():
    assert names(crew(0, 1), "round-robin", 4) == "bbbb"
    assert set(names(crew(0, 1), "random", 50)) == {"b"}
    assert set(names(crew(0, 1), "p2c", 50)) == {"b"}
    assert set(names(crew(0, 1), "least-requests", 4)) == {"b"}


def test_first_takes_the_first():
    assert names(crew(1, 9), "first", 3) == "aaa"


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, "a"), (0.24, "a"), (0.26, "b"), (0.74, "b"), (0.76, "c"), (0.999, "c")])
def test_a_draw_is_laid_over_the_weights(drawn, expected):
    assert pick.weighted_draw(crew(1, 2, 1), drawn).name == expected


@pytest.mark.parametrize(
    ("one", "two", "busy", "expected"),
    [
        (0.0, 0.0, (3, 1, 9), "b"),
        (0.0, 0.9, (3, 1, 9), "a"),
        (0.5, 0.9, (3, 1, 9), "b"),
        (0.9, 0.0, (3, 1, 2), "c"),
    ],
)
def test_of_two_drawn_the_less_busy_is_taken(one, two, busy, expected):
    assert pick.two_choices(crew(1, 1, 1, busy=busy), one, two).name == expected


def test_two_draws_are_never_the_same_candidate():
    three = crew(1, 1, 1)
    for one in (0.0, 0.4, 0.99):
        for two in (0.0, 0.5, 0.99):
            a, b = pick.draw_two(three, one, two)
            assert a is not b


@pytest.mark.parametrize(
    ("weights", "busy", "turn", "expected"),
    [
        ((1, 1, 1), (2, 0, 1), 0, "b"),
        ((1, 1, 1), (0, 0, 0), 0, "a"),
        ((1, 1, 1), (0, 0, 0), 1, "b"),
        ((1, 1, 1), (0, 0, 0), 5, "c"),
        ((4, 1), (2, 0), 1, "a"),
        ((1, 4), (0, 4), 0, "a"),
    ],
)
def test_least_requests_counts_weight_and_takes_turns(weights, busy, turn, expected):
    assert pick.least_requests(crew(*weights, busy=busy), turn).name == expected


def test_a_slow_answer_counts_at_once_and_fades():
    a, b = crew(1, 1)
    a.learn(1_000_000, 0)
    b.learn(1_000_000, 0)
    a.learn(80_000_000, 1)
    assert a.ewma == 80_000_000
    assert pick.peak_ewma([a, b], 0.0, 0.0, 2) is b
    a.learn(1_000_000, 30 * pick.DECAY)
    assert a.ewma < 1_100_000


def test_a_candidate_nobody_tried_yet_is_tried():
    a, b = crew(1, 1)
    a.learn(1_000_000, 0)
    assert pick.peak_ewma([a, b], 0.0, 0.0, 1) is b


@pytest.mark.parametrize("policy", ["hash(ip)", "maglev(header:x-user)"])
def test_a_key_keeps_its_candidate_and_few_move_when_one_goes(policy):
    picker = pick.picker(policy)
    four = crew(1, 1, 1, 1)
    keys = [b"key %d" % i for i in range(2000)]
    before = {key: picker.pick(four, key, 0).name for key in keys}
    assert before == {key: picker.pick(four, key, 0).name for key in keys}
    shares = Counter(before.values())
    assert min(shares.values()) > 400 and max(shares.values()) < 600
    after = {key: picker.pick(four[:3], key, 0).name for key in keys}
    moved = [key for key in keys if before[key] != after[key] and before[key] != "d"]
    assert len(moved) < (1 if policy.startswith("hash") else 200)


@pytest.mark.parametrize("policy", ["hash(ip)", "maglev(ip)"])
def test_hashing_follows_weights(policy):
    picker = pick.picker(policy)
    two = crew(3, 1)
    shares = Counter(picker.pick(two, b"key %d" % i, 0).name for i in range(4000))
    assert 0.7 < shares["a"] / 4000 < 0.8



def test_the_hash_is_the_same_in_every_process():
    assert pick.hash_key(b"10.0.0.1") == 16574176683607101011


def test_an_unknown_policy_is_refused():
    with pytest.raises(KeyError):
        pick.picker("fastest")
