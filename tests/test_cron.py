"""Schedules: once for each time whoever looks, the edges of summer time, missed times, jumps, changed expressions."""

import asyncio
import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from enginesuite import open_here
from fairlead.core.errors import ConfigError
from fairlead.serve.cron import FORGET, Cron, following
from fairlead.serve.jobs import JobKind, JobOptions, Jobs, queue_of


async def nightly():
    pass


class Told:
    """A store's clock that shows what it is told."""

    def __init__(self, store):
        self.store, self.time = store, 1_700_000_000.0

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def now(self):
        return self.time


def play(story, cron="0 3 * * *", zone="UTC"):
    async def run():
        store = await open_here()
        clock = Told(store)

        def worker(expression=cron):
            jobs = Jobs(clock, hub=HUB)
            jobs.add(JobKind(nightly, "nightly", JobOptions(cron=expression, timezone=zone)))
            return Cron(jobs)

        try:
            await story(clock, worker)
        finally:
            await store.close()

    asyncio.run(run())


HUB = object()  # no hint is waited for here


async def waiting(clock):
    return (await clock.leases.depth(queue_of("nightly"))).ready


def local(zone, *parts):
    return datetime(*parts, tzinfo=ZoneInfo(zone)).timestamp()


def test_each_time_is_submitted_once_however_many_look():
    async def story(clock, worker):
        crons = [worker() for _ in range(5)]
        assert 0 < await crons[0].look() <= 30
        for day in range(1, 4):
            clock.time = following("0 3 * * *", "UTC", clock.time)
            await asyncio.gather(*(cron.look() for cron in crons))
            assert await waiting(clock) == day

    play(story)


def test_one_that_died_between_submitting_and_moving_on_submits_no_second():
    async def story(clock, worker):
        cron = worker()
        await cron.look()
        clock.time = following("0 3 * * *", "UTC", clock.time)
        await cron.jobs.submit("nightly", name=f"cron-{round(clock.time)}")
        await worker().look()
        assert await waiting(clock) == 1

    play(story)


def test_after_a_pause_one_job_stands_for_all_that_were_missed():
    async def story(clock, worker):
        await worker().look()
        clock.time += 10 * 86400
        await worker().look()
        await worker().look()
        assert await waiting(clock) == 1

    play(story)


def test_a_changed_expression_counts_from_now():
    async def story(clock, worker):
        await worker("0 3 * * *").look()
        await worker("30 * * * *").look()
        told = json.loads((await clock.state.get("cron/nightly")).value)
        assert told["at"] == following("30 * * * *", "UTC", clock.time) and await waiting(clock) == 0

    play(story)


def test_a_schedule_that_nobody_has_any_more_goes_after_a_time():
    async def story(clock, worker):
        value = json.dumps({"cron": "* * * * *", "zone": "UTC", "at": clock.time}).encode()
        await clock.state.put_if("cron/old", value, 0, due=1.0)
        await worker().look()
        assert await clock.state.get("cron/old") is not None
        clock.time += FORGET + 1
        await worker().look()
        assert await clock.state.get("cron/old") is None

    play(story)


def test_an_hour_that_is_skipped_and_one_that_comes_twice():
    zone = "Europe/Oslo"
    before = local(zone, 2026, 3, 29, 0, 0)
    spring = following("30 2 * * *", zone, before)
    assert spring == local(zone, 2026, 3, 29, 3, 0)  # 02:30 is not there that day: just after the gap
    assert following("30 2 * * *", zone, spring) == local(zone, 2026, 3, 30, 2, 30)
    autumn = following("30 2 * * *", zone, local(zone, 2026, 10, 25, 0, 0))
    again = following("30 2 * * *", zone, autumn)
    assert again == local(zone, 2026, 10, 26, 2, 30)  # once, though 02:30 comes twice


def test_a_clock_that_is_set_back_repeats_nothing():
    async def story(clock, worker):
        await worker().look()
        clock.time = following("0 3 * * *", "UTC", clock.time)
        await worker().look()
        clock.time -= 3600
        await worker().look()
        clock.time += 3600
        await worker().look()
        assert await waiting(clock) == 1

    play(story)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [("every day", "UTC"), ("61 * * * *", "UTC"), ("* * * * *", "Mars/Olympus"), ("0 0 30 2 *", "UTC")],
)
def test_what_is_no_schedule(cron, zone):
    with pytest.raises(ConfigError):
        following(cron, zone, 1_700_000_000.0)
