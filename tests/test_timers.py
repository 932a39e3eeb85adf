"""The wheel calls an item within a tick of the earliest time it asked for."""

from fairlead.net.timers import GRAIN, Timed, Wheel

SECOND = 1_000_000_000


class Item(Timed):
    def __init__(self):
        super().__init__()
        self.calls = []

    def due(self, now):
        self.calls.append(now)


def test_an_item_is_called_once_within_a_tick_after_its_time():
    wheel, item = Wheel(0), Item()
    wheel.add(SECOND, item)
    wheel.run(SECOND - GRAIN)
    assert item.calls == []
    wheel.run(SECOND + GRAIN)
    wheel.run(9 * SECOND)
    assert item.calls == [SECOND + GRAIN]


def test_a_later_time_leaves_the_item_where_it_is():
    wheel, item = Wheel(0), Item()
    wheel.add(SECOND, item)
    wheel.add(5 * SECOND, item)
    wheel.run(2 * SECOND)
    assert len(item.calls) == 1


def test_an_earlier_time_moves_the_item():
    wheel, item = Wheel(0), Item()
    wheel.add(5 * SECOND, item)
    wheel.add(SECOND, item)
    wheel.run(2 * SECOND)
    wheel.run(9 * SECOND)
    assert item.calls == [2 * SECOND]


def test_a_removed_item_is_not_called_and_not_kept():
    wheel, item = Wheel(0), Item()
    wheel.add(SECOND, item)
    wheel.remove(item)
    wheel.run(9 * SECOND)
    assert item.calls == []
    assert not any(wheel.slots.values())


def test_a_time_in_the_past_is_called_at_the_next_tick():
    wheel, item = Wheel(100 * SECOND), Item()
    wheel.add(SECOND, item)
    wheel.run(100 * SECOND + 2 * GRAIN)
    assert len(item.calls) == 1


def test_a_clock_that_jumped_far_costs_only_the_used_slots():
    wheel, item = Wheel(0), Item()
    wheel.add(SECOND, item)
    wheel.run(10_000_000 * SECOND)
    assert len(item.calls) == 1
    wheel.add(10_000_001 * SECOND, item)
    wheel.run(10_000_002 * SECOND)
    assert len(item.calls) == 2


def test_an_item_may_ask_again_while_it_is_called():
    wheel = Wheel(0)

    class Again(Item):
        def due(self, now):
            super().due(now)
            wheel.add(now + SECOND, self)

    item = Again()
    wheel.add(SECOND, item)
    for second in range(1, 6):
        wheel.run(second * SECOND + GRAIN)
    assert len(item.calls) >= 3
