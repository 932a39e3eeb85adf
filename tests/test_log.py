"""Where access-log lines go: files that rotate, pipes that nobody reads, disks that are full."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairlead.core.errors import NetError
from fairlead.core.record import Recorder
from fairlead.core.slab import Slab
from fairlead.run.log import PENDING_MOST, AccessLog, Sink, access_log
from journeys import exchange


def settings(path: str | Path, form: str = "text") -> SimpleNamespace:
    """A [log] table."""
    return SimpleNamespace(access=str(path), format=form, buffer=65536, query=True)


def test_requests_are_in_the_file_when_the_worker_ends(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = access_log(settings(file))
    assert log is not None
    recorder = Recorder(Slab.create(1).region(0), (), log)
    for _ in range(3):
        recorder.done(exchange())
    assert file.read_bytes() == b""
    recorder.close()
    assert file.read_text().count('"GET /a HTTP/1.1" 200') == 3


def test_off_is_no_log() -> None:
    assert access_log(settings("off")) is None


def test_a_file_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"cannot write the access log .*nowhere"):
        access_log(settings(tmp_path / "nowhere" / "access.log"))


def test_after_a_rotation_new_lines_go_to_a_new_file(tmp_path: Path) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(Sink(str(file)))
    recorder = Recorder(Slab.create(1).region(0), (), log)
    recorder.done(exchange(target=b"/before"))
    file.rename(old)
    log.reopen()
    recorder.done(exchange(target=b"/after"))
    recorder.close()
    assert "/before" in old.read_text()
    assert "/after" in file.read_text() and "/before" not in file.read_text()


def test_a_rotation_that_fails_goes_on_with_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    sink = Sink(str(folder / "access.log"))
    moved = folder.rename(tmp_path / "moved")
    with caplog.at_level(logging.ERROR, "fairlead"):
        sink.reopen()
    sink.write(b"still here\n")
    assert (moved / "access.log").read_bytes() == b"still here\n"
    assert "going on with the old file" in caplog.text


def test_two_workers_do_not_cut_each_others_lines(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    sinks = [Sink(str(file)), Sink(str(file))]
    for n in range(200):
        sinks[n % 2].write(b"%d" % (n % 2) * 100 + b"\n")
    assert {len(line) for line in file.read_bytes().splitlines()} == {100}


def test_a_pipe_that_nobody_reads_neither_blocks_nor_grows_for_ever() -> None:
    reader, writer = os.pipe()
    sink = Sink("-", writer)
    line = b"x" * 999 + b"\n"
    for _ in range(3000):
        sink.write(line)
    assert len(sink.pending) <= PENDING_MOST
    assert sink.lost > 0
    got = b""
    while len(got) < 100_000 + PENDING_MOST - 200_000:
        sink.write(b"")
        got += os.read(reader, 65536)
    assert {len(one) for one in got.splitlines()[:-1]} == {999}
    os.close(reader)
    os.close(writer)


def test_what_a_full_pipe_left_is_written_when_it_is_read_again() -> None:
    reader, writer = os.pipe()
    log = AccessLog(Sink("-", writer))
    log.sink.write(b"x" * 999 + b"\n" * 200)
    while not log.sink.pending:
        log.sink.write(b"x" * 999 + b"\n")
    os.read(reader, 1 << 20)
    log.retry()
    assert not log.sink.pending
    os.close(reader)
    os.close(writer)


def test_standard_output_shared_with_others_stays_blocking_for_them() -> None:
    reader, writer = os.pipe()
    Sink("-", writer).write(b"line\n")
    assert os.get_blocking(writer)
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said_once_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink("/dev/full")
    with caplog.at_level(logging.ERROR, "fairlead"):
        for _ in range(2000):
            sink.write(b"x" * 999 + b"\n")
    assert caplog.text.count("No space left") == 1
    assert sink.lost > 0
    assert len(sink.pending) <= PENDING_MOST
    sink.close()


def test_a_reader_that_left_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = Sink("-", writer)
    sink.write(b"nobody\n")
    sink.write(b"nobody\n")
    assert sink.pending == b"nobody\nnobody\n"
    os.close(writer)


def test_a_disk_that_fills_in_the_middle_of_a_line_and_has_room_again_shows_every_line_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, real = [25], os.write

    def write(fd: int, data: memoryview) -> int:
        took = min(room[0], len(data))
        if not took:
            raise OSError(28, "No space left on device")
        room[0] -= took
        return real(fd, data[:took])

    monkeypatch.setattr(os, "write", write)
    sink = Sink(str(tmp_path / "access.log"))
    with caplog.at_level(logging.INFO, "fairlead"):
        for number in range(5):
            sink.write(b"line %04d\n" % number)
        assert caplog.text.count("No space left") == 1
        room[0] = 1000
        sink.write(b"")
    assert (tmp_path / "access.log").read_bytes() == b"".join(b"line %04d\n" % number for number in range(5))
    assert "is written again (lines dropped since the start: 0)" in caplog.text
    sink.close()
