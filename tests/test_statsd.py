"""run.statsd and run.pidfile."""

import os
import re
from types import SimpleNamespace

import pytest

from fairlead.core.errors import ConfigError
from fairlead.core.histogram import BUCKETS, bucket
from fairlead.core.journey import STEPS
from fairlead.run import pidfile
from fairlead.run.statsd import MTU, Statsd, packets

LINE = re.compile(r"[\w.-]+:-?[0-9.]+\|(c|g|ms)$")


class Seen:
    """Observations as a test wants them."""

    def __init__(self):
        self.totals = {}
        self.histograms = {step: [0] * BUCKETS for step in ("total", *STEPS)}

    def sample(self):
        return SimpleNamespace(totals=dict(self.totals), histograms={k: list(v) for k, v in self.histograms.items()})


def test_counters_go_as_their_increase_and_gauges_as_they_are():
    seen = Seen()
    statsd = Statsd(seen, ("127.0.0.1", 1), "shop.")
    seen.totals = {"requests": 5, "open": 2}
    assert statsd.lines() == ["shop.requests:5|c", "shop.connections.open:2|g", "shop.in_flight:0|g"]
    seen.totals = {"requests": 7, "open": 1}
    assert statsd.lines()[0] == "shop.requests:2|c"
    assert not [line for line in statsd.lines() if line.endswith("|c")]


def test_steps_are_percentiles_of_the_interval_only():
    seen = Seen()
    statsd = Statsd(seen, ("127.0.0.1", 1))
    seen.histograms["total"][bucket(1_000_000)] = 100
    [p50, p99] = [line for line in statsd.lines() if ".p" in line]
    assert re.match(r"fairlead\.total\.p50:(0\.9|1\.)\d+\|g$", p50) and p99.startswith("fairlead.total.p99:")
    seen.histograms["total"][bucket(64_000_000)] = 1
    [p50, _] = [line for line in statsd.lines() if ".p" in line]
    assert 55 < float(p50.partition(":")[2].partition("|")[0]) < 75
    assert not [line for line in statsd.lines() if ".p" in line]


def test_datagrams_are_small_and_hold_every_line():
    lines = [f"fairlead.metric{n}:{n}|c" for n in range(500)]
    sent = packets(lines)
    assert max(map(len, sent)) <= MTU and b"\n".join(sent).decode().split("\n") == lines
    assert packets([]) == [] and all(map(LINE.match, lines))


def test_a_pid_file_is_written_whole_and_removed_only_by_who_it_names(tmp_path):
    file = tmp_path / "run.pid"
    path = str(file)
    pidfile.write(path)
    assert file.read_text() == f"{os.getpid()}\n" and os.listdir(tmp_path) == ["run.pid"]
    pidfile.remove(path)
    assert not os.path.exists(path)
    file.write_text("1\n")
    pidfile.remove(path)
    assert os.path.exists(path)
    file.write_text("junk")
    pidfile.remove(path)
    pidfile.write("")
    pidfile.remove("")
    with pytest.raises(ConfigError, match="cannot write"):
        pidfile.write(str(tmp_path / "none" / "x.pid"))
