"""The bench's arithmetic: what counts as a run, and what the report says of it."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))

import measure
import report
from report import Record, Records

WRK = "  41238 requests in 1.10s, 5.5MB read\nRequests/sec: 37489.1\n"


def record(case: str, server: str, tls: bool = False, log: bool = True, **figures: list[float]) -> Record:
    """A record with its figures."""
    return Record(case, server, tls, log, dict(figures))


def test_requests_and_seconds_are_read_from_the_load_generator() -> None:
    assert measure.parse_wrk(WRK) == measure.Load(41238, 1.10)


@pytest.mark.parametrize(
    "complaint", ["  Non-2xx or 3xx responses: 7", "  Socket errors: connect 0, read 3, write 0, timeout 0", ""]
)
def test_a_run_with_a_wrong_answer_or_none_is_no_figure(complaint: str) -> None:
    with pytest.raises(measure.BadRun):
        measure.parse_wrk(WRK + complaint if complaint else "0 requests in 1.00s")


def test_the_ratio_is_fairleads_median_over_the_peers() -> None:
    found = Records(
        [record("asgi-plain", "fairlead", us=[15, 16, 90]), record("asgi-plain", "granian", us=[30, 32, 40])]
    )
    text = report.markdown(found, {"cpu": "test"}, "3 rounds")
    assert "| granian | 32.0 (30.0 to 40.0) | 0.50 |" in text
    assert "| asgi-plain, access log: Fairlead / granian | 0.50 | 0.50 | yes |" in text


def test_a_broken_ceiling_is_said_in_bold() -> None:
    found = Records([record("proxy-12b", "fairlead", us=[30]), record("proxy-12b", "nginx", us=[25])])
    assert "| 0.95 | 1.20 | **no** |" in report.markdown(found, {}, "")


def test_what_tls_adds_is_held_against_what_it_adds_to_nginx() -> None:
    figures = [
        ("respond", "nginx", 10.0, 22.0),
        ("respond", "fairlead", 9.0, 20.0),
        ("asgi-tls", "fairlead", 15.0, 30.0),
    ]
    found = Records(
        [record(case, name, tls, us=[us]) for case, name, *both in figures for tls, us in zip((False, True), both)]
    )
    assert [verdict.ok for verdict in report.tls_verdicts(found)] == [True, False]


def test_the_journeys_share_of_the_instructions_becomes_time() -> None:
    found = Records(
        [
            record("journey", "fairlead", instructions=[20_000], user_us=[8]),
            record("journey", "fairlead-without-journey", instructions=[19_000], user_us=[7.8]),
        ]
    )
    assert report.journey_cost(found) == pytest.approx(0.4)
    assert report.journey_verdicts(found)[0].ok


def test_a_server_that_was_skipped_is_named_with_the_reason() -> None:
    skipped = record("asgi-plain", "hypercorn")
    skipped.trouble.append("did not open its port")
    assert "- `asgi-plain`, hypercorn: did not open its port" in report.markdown(Records([skipped]), {}, "")


def test_the_process_tree_of_this_test_has_cpu_and_memory() -> None:
    assert measure.cpu_seconds(os.getpid()) > 0
    assert measure.memory(os.getpid()).rss > 1 << 20
