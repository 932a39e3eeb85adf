"""The tail against the middle: which step makes the slow requests slow.

Percentiles per step do not say it: the requests at one step's p99 are others than those at the next one's. So whole requests
are compared: the slowest hundredth of those remembered (`TAIL_LEAST` at the least) with the middle fifth, mean time per step.
The step that grew most between them is the answer, and it is often not the one where most time is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.core.journey import STEPS
from fairlead.run import why

FEW = 30  # requests; with fewer there is no tail
TAIL_LEAST = 3
EACH = 256  # of each worker


def compare(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """{requests, tail, median_us, tail_us, step, sentence, steps: [{name, median_us, tail_us}]}; None with too few requests."""
    timed = [(total, times) for total, times in map(times_of, records) if total]
    if len(timed) < FEW:
        return None
    timed.sort(key=lambda one: one[0])
    slow = timed[-max(TAIL_LEAST, len(timed) // 100) :]
    middle = timed[len(timed) * 2 // 5 : len(timed) * 3 // 5]
    median, tail = mean([one[0] for one in middle]), mean([one[0] for one in slow])
    steps = []
    for name in (*STEPS, "unknown"):
        usual, late = (mean([times.get(name, 0) for _, times in part]) for part in (middle, slow))
        if usual or late:
            steps.append((name, usual, late))
    step, usual, late = max(steps, key=lambda one: one[2] - one[1], default=("unknown", 0.0, 0.0))
    grew = min(1.0, (late - usual) / (tail - median)) if tail > median else 0.0
    sentence = (
        f"The slowest {len(slow)} of {len(timed)} took {why.human(tail)}, the middle {why.human(median)}: "
        f"{grew:.0%} of the difference is {step} ({why.MEANING[step]})."
    )
    return {
        "requests": len(timed),
        "tail": len(slow),
        "median_us": why.micros(round(median)),
        "tail_us": why.micros(round(tail)),
        "step": step,
        "sentence": sentence,
        "steps": [{"name": n, "median_us": why.micros(round(a)), "tail_us": why.micros(round(b))} for n, a, b in steps],
    }


def times_of(record: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """(total, {step: ns}) of a finished request; (0, {}) of a tunnel."""
    if record["tunnel"]:
        return 0, {}
    _, total, pieces = why.timeline(record)
    return total, why.own_time(record, pieces + why.unexplained(total, pieces))


def mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
