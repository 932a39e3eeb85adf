"""The order of the files. Several processes take whole files from one queue (scripts/test), so what takes long stands first in it:
else a run ends with one process at work and the others idle. Files whose tests mostly wait for servers and files whose tests
only compute are spread evenly among each other, for the same reason. A run that passes is what a new entry is measured by
(``--durations``); one that is missing costs a few seconds of idling and nothing else.

A run of `scripts/test` ends with a table: how long its parts and the longest files took, and what was skipped for which reason.

And no test may send a signal to who is not its own.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LONGEST = (  # first
    "real/test_patterns.py",
    "real/test_process.py",
    "real/test_supervision.py",
    "real/test_frameworks.py",
    "real/test_grid.py",
    "real/test_h2_peers.py",
    "real/test_websocket_peers.py",
    "real/test_upload_clients.py",
    "real/test_h3_transport.py",
    "real/test_drain.py",
    "real/test_job_faults.py",
    "real/test_topic_clients.py",
    "real/test_jobs_served.py",
    "real/test_store.py",
    "real/test_faults.py",
    "store/test_engine_faults.py",
    "store/test_contract.py",
    "real/test_grpc_peers.py",
    "real/test_topic_faults.py",
    "real/test_slow_clients.py",
    "real/test_realtime.py",
    "real/test_h1_conformance.py",
    "real/test_topic_browser.py",
    "real/test_tickets.py",
)


def careful(send: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """`os.kill` or `os.killpg`, but not for 0 (whoever is in our group), -1 (all there are) and 1: a test whose process is gone, or
    not there yet, would take the whole run along with it.
    """

    def checked(process: int, number: int, /) -> None:
        if process <= 1 or (send is group and process == os.getpgrp()):
            raise AssertionError(f"signal {number} to {process}: that is no process of this test")
        send(process, number)

    return checked


group = os.killpg
os.kill, os.killpg = careful(os.kill), careful(os.killpg)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, those that wait among those that compute."""
    names = {item.path: item.path.relative_to(HERE).as_posix() for item in items if item.path.is_relative_to(HERE)}
    by_length = {name: place for place, name in enumerate(LONGEST)}
    ranked = sorted(names, key=lambda path: by_length.get(names[path], len(LONGEST)))
    place: dict[Path, float] = {}
    for waits in (True, False):
        kind = [path for path in ranked if (path.parent != HERE) is waits]
        place |= {path: index / len(kind) for index, path in enumerate(kind)}
    items.sort(key=lambda item: place.get(item.path, 1.0))  # stable: the tests of a file stay together and in order


def pytest_collection_finish() -> None:
    """From here on nobody keeps bytecode, nor do processes that tests start: a file that is written anew within its second, as
    long as before, would be taken for the old one. What pytest has rewritten of the tests themselves is kept, if it may be.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


BEGAN = time.monotonic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, where scripts/test asks for it by FAIRLEAD_TEST_TABLE: a file with the lines of the parts before this one."""
    table = os.environ.get("FAIRLEAD_TEST_TABLE", "")
    if not table:
        return
    took, skipped = Counter[str](), Counter[str]()
    for kind, reports in terminalreporter.stats.items():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                took[report.nodeid.partition("::")[0]] += report.duration
                if kind == "skipped" and isinstance(report.longrepr, tuple):
                    skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1
    write = terminalreporter.write_line
    terminalreporter.section("what took how long, and what was skipped")
    with open(table) as before:
        write(before.read().rstrip())
    write(f"{time.monotonic() - BEGAN:4.0f} s  these tests; the longest files (side by side with others):")
    for name, seconds in took.most_common(12):
        write(f"{seconds:9.0f} s  {name}")
    for reason, count in skipped.most_common():
        write(f"{count:4d} skipped: {reason}")
