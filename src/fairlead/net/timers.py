"""One wheel of deadlines per event loop: coarse, cheap to re-arm, and never behind by more than a tick.

A connection's deadline moves with every request, almost always later. So an item sits in the slot of the earliest deadline
it ever asked for, and when that slot comes up, it looks at its own deadline: not yet due, it takes a new slot. Re-arming is
then free. `add` with an earlier time moves the item. An item is in at most one slot; `remove` takes it out, so closed
connections are not kept alive by the wheel.
"""

from __future__ import annotations

from fairlead.core.carrier import Carrier

GRAIN = 100_000_000  # ns per tick: deadlines are seconds, so a tenth is exact enough


class Timed(Carrier):
    """What a wheel holds. `slot` is the wheel's: the tick it sits in, 0 for none.

    It derives from Carrier because a compiled class has one base, and connections' carriers are what is timed.
    """

    def __init__(self):
        self.blocked = self.regions = False
        self.slot = 0

    def due(self, now):
        """The slot has come up. Check the own deadline; `wheel.add` again when it is later."""


class Wheel:
    """Slots by tick number; times are monotonic nanoseconds."""

    def __init__(self, now):
        self.slots = {}
        self.cursor = now // GRAIN

    def add(self, at, item):
        """Have `item.due` called within one tick after `at`, or sooner if it asked for sooner before."""
        tick = at // GRAIN + 1
        if tick <= self.cursor:
            tick = self.cursor + 1
        if item.slot:
            if item.slot <= tick:
                return
            self.remove(item)
        item.slot = tick
        held = self.slots.get(tick)
        if held is None:
            held = self.slots[tick] = set()
        held.add(item)

    def remove(self, item):
        """Forget an item."""
        if item.slot:
            held = self.slots.get(item.slot)
            if held is not None:
                held.discard(item)
            item.slot = 0

    def run(self, now):
        """Call everything whose slot has passed."""
        last = now // GRAIN
        if last - self.cursor > 10 * len(self.slots) + 1000:
            passed = sorted([tick for tick in self.slots if tick <= last])
        else:
            passed = list(range(self.cursor + 1, last + 1))
        for tick in passed:
            self.cursor = tick
            held = self.slots.pop(tick, None)
            if held is not None:
                for item in held:
                    item.slot = 0
                for item in held:
                    item.due(now)
        self.cursor = max(self.cursor, last)
