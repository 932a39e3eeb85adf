"""ECN in memory: what validates, and aioquic's engine at both ends of a path that keeps, strips, changes or drops marks."""

from __future__ import annotations

import pytest

from fairlead.net.quicecn import CAPABLE, CE, ECT0, ECT1, FAILED, NOT, TESTING, TESTS, UNKNOWN, Marking
from test_quic import Pair, certificate  # noqa: F401

pytest.importorskip("aioquic")


def marked(count):
    made = Marking()
    for _ in range(count):
        made.sent("app")
    return made


def test_marks_are_tested_with_ten_packets_and_go_on_once_they_are_counted_right():
    one = marked(TESTS - 1)
    assert one.state == TESTING and one.mark == ECT0
    one.sent("app")
    assert one.state == UNKNOWN and one.mark == NOT
    assert not one.acked("app", 9, 10, (10, 0, 0)) and one.state == CAPABLE and one.mark == ECT0


@pytest.mark.parametrize(
    ("newly", "counts"),
    [(4, None), (4, (3, 0, 0)), (4, (2, 0, 1)), (4, (3, 1, 0)), (4, (11, 0, 0)), (4, (5, 0, 6)), (4, (4, 1, 0)), (4, (0, 0, 0))],
)
def test_what_is_not_counted_right_fails(newly, counts):
    one = marked(10)
    assert not one.acked("app", 3, newly, counts) and one.state == FAILED and one.mark == NOT
    one.restart()
    assert one.state == TESTING


def test_spaces_count_for_themselves_and_a_late_acknowledgement_says_nothing():
    one = marked(10)
    one.sent("hello")
    one.acked("app", 7, 8, (8, 0, 0))
    one.acked("hello", 0, 1, (1, 0, 0))
    one.acked("app", 5, 0, (6, 0, 0))
    assert one.state == CAPABLE
    one.acked("app", 9, 2, (7, 0, 3))
    assert one.state == FAILED  # one that was counted is counted no more


def test_what_was_not_marked_may_be_acknowledged_without_counts():
    one = marked(10)
    one.acked("app", 9, 10, (10, 0, 0))
    one.acked("app", 12, 0, None)
    assert one.state == CAPABLE


def test_a_rise_of_ce_is_congestion_each_time():
    one = marked(10)
    assert one.acked("app", 3, 4, (3, 0, 1)) and not one.acked("app", 5, 2, (5, 0, 1)) and one.acked("app", 6, 1, (5, 0, 2))


def test_a_path_that_drops_what_is_marked_gets_no_marks():
    one = marked(TESTS)
    for _ in range(TESTS):
        one.lost()
    assert one.state == FAILED and Marking(wanted=False).mark == NOT


# ---- the engine


class Path(Pair):
    """`changes(mark)` is what the network makes of the bits."""

    def __init__(self, certificate, changes, client="aioquic", **options):  # noqa: F811
        self.changes = changes
        super().__init__(client, "aioquic", certificate, **options)

    def carried(self, mark):
        return self.changes(mark)

    def bulk(self, size=300_000):
        self.run()
        stream = self.client.opener(False)
        self.client.send(stream, b"x", False)
        self.run(3)
        self.server.send(stream, bytes(size), True)
        for _ in range(300):
            self.run(2)
            if len(self.data(self.client, stream)) == size:
                break
        assert len(self.data(self.client, stream)) == size and self.server.failed is None and self.client.failed is None
        return self.server.conn


def test_a_path_that_keeps_the_marks_gets_all_packets_marked_and_each_space_is_counted(certificate):  # noqa: F811
    pair = Path(certificate, lambda mark: mark)
    conn = pair.bulk()
    assert conn.marking.state == CAPABLE == pair.client.conn.marking.state and pair.server.mark == ECT0
    assert len(conn.marking.told) >= 2, "at least the handshake's packets and the application's"
    told = [counts for counts in conn.marking.told.values()]
    assert sum(one[0] for one in told) >= 200 and all(one[1:] == [0, 0] for one in told)


def test_a_path_that_clears_the_marks_is_not_marked_for_long(certificate):  # noqa: F811
    conn = Path(certificate, lambda mark: NOT).bulk()
    assert conn.marking.state == FAILED and sum(conn.marking.counted.values()) <= TESTS


def test_a_path_that_turns_them_into_the_other_mark_fails(certificate):  # noqa: F811
    assert Path(certificate, lambda mark: ECT1 if mark else NOT).bulk().marking.state == FAILED


def test_a_peer_that_does_not_count_is_not_marked_for(certificate):  # noqa: F811
    pytest.importorskip("qh3")
    assert Path(certificate, lambda mark: mark, client="qh3").bulk().marking.state == FAILED


@pytest.mark.parametrize("congestion", ["reno", "cubic"])
def test_congestion_marks_slow_us_as_a_loss_would_once_a_round_trip(certificate, congestion):  # noqa: F811
    free = Path(certificate, lambda mark: mark, congestion=congestion).bulk()
    slow = Path(certificate, lambda mark: CE if mark == ECT0 else mark, congestion=congestion)
    conn = slow.bulk(100_000)
    assert conn.marking.state == CAPABLE and conn.lost == 0
    assert conn._loss.congestion_window < 8 * 1280 < free._loss.congestion_window
    assert conn._loss._cc.ssthresh is not None


def test_where_marking_is_not_wanted_marks_of_the_peer_are_told_all_the_same(certificate):  # noqa: F811
    pair = Path(certificate, lambda mark: mark, ecn=False)
    conn = pair.bulk()
    assert pair.server.mark == NOT and conn.marking.counted == {} and pair.client.conn.marking.state == CAPABLE


def test_another_address_is_tested_anew(certificate):  # noqa: F811
    pair = Path(certificate, lambda mark: NOT)
    assert pair.bulk().marking.state == FAILED
    pair.changes = lambda mark: mark
    pair.home = ("127.0.0.2", 1001)
    pair.client.ping()
    assert pair.bulk().marking.state == CAPABLE

