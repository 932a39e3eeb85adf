"""Counting over workers: each in its own region, what others have is added, and what a dead one had goes with it."""

import random
from collections import Counter

import pytest

from fairlead.core import tally
from fairlead.core.slab import Slab
from fairlead.core.tally import Tally


@pytest.fixture
def slab():
    made = Slab.create(3)
    for index in range(3):
        made.region(index).claim(100 + index, 0, 0)
    return made


def test_without_other_workers_it_counts_what_is_there():
    alone = Tally()
    alone.add("ann", 1)
    alone.add("ann", 1)
    alone.add("ann", -1)
    assert (alone.count("ann"), alone.count("bob")) == (1, 0)
    alone.add("ann", -1)
    assert not alone.counts


def test_everybody_sees_what_all_have(slab):
    one, two = Tally(slab, 0), Tally(Slab.attach(slab.fd), 1)
    one.add("ann", 1)
    two.add("ann", 1)
    two.add("bob", 1)
    assert [who.count("ann") for who in (one, two, Tally(slab, 2))] == [2, 2, 2]
    assert one.count("bob") == 1 and one.count("eve") == 0
    two.add("ann", -1)
    assert one.count("ann") == 1


def test_what_a_dead_worker_had_counts_no_more(slab):
    one, two = Tally(slab, 0), Tally(slab, 1)
    two.add("ann", 1)
    assert one.count("ann") == 1
    slab.region(1).set("following", 0)  # the master has seen it end
    assert one.count("ann") == 0
    slab.region(1).claim(200, 0, 0)
    renewed = Tally(slab, 1)
    renewed.add("bob", 1)  # it counts now, and what stands there of ann is of the owner before
    assert (one.count("ann"), one.count("bob")) == (0, 1)
    renewed.add("ann", 1)
    assert one.count("ann") == 1


def test_any_comings_and_goings_of_more_names_than_there_are_places(slab, monkeypatch):
    chance = random.Random(7)
    one, two = Tally(slab, 0), Tally(slab, 1)
    for who in (one, two):
        who.places = 16
    true = Counter()
    for _ in range(3000):
        name = f"c{chance.randrange(12)}"
        step = -1 if true[name] and chance.random() < 0.55 else 1
        true[name] += step
        two.add(name, step)
        assert two.count(name) == true[name]  # its own worker always knows
        assert one.count(name) in (true[name], 0)  # others know, or there was no place
    crowded = [f"c{i}" for i in range(12) if true[f"c{i}"] and not one.count(f"c{i}")]
    assert len(crowded) <= 12 - tally.PROBES + 4
