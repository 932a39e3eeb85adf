"""The server's own log outlives what applications and peers do to it."""

import logging
import logging.config
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairlead.run import logs


def test_an_application_that_disables_existing_loggers_does_not_silence_ours():
    ours, theirs = logging.getLogger("fairlead.error"), logging.getLogger("somebody.else")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    assert ours.disabled and theirs.disabled
    logs.reclaim()
    assert not ours.disabled
    assert theirs.disabled
    theirs.disabled = False


def hello(name):
    """A ClientHello that asks for `name` (bytes that no client of ours would send)."""
    came, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    plain = "x" * len(name)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(came, said, server_hostname=plain)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read().replace(plain.encode(), name)


def test_a_tls_name_that_is_none_is_one_quiet_line(caplog, capsys, monkeypatch):
    logs.reclaim()
    monkeypatch.setattr(sys, "unraisablehook", logs.unraisable)
    monkeypatch.setattr(logging.getLogger("fairlead"), "propagate", True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda *_: None
    came = ssl.MemoryBIO()
    came.write(hello(b"ex\xe9mple.test"))
    with caplog.at_level(logging.DEBUG, logger="fairlead"), pytest.raises(ssl.SSLError):
        context.wrap_bio(came, ssl.MemoryBIO(), server_side=True).do_handshake()
    assert [record.levelname for record in caplog.records if "server name" in record.getMessage()] == ["DEBUG"]
    assert capsys.readouterr().err == ""


def test_anything_else_unraisable_is_shown_as_always(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "__unraisablehook__", shown.append)
    what = SimpleNamespace(object=print, exc_value=ValueError())
    logs.unraisable(what)
    assert shown == [what]


def record(words):
    return logging.LogRecord("fairlead", logging.INFO, "", 0, words, None, None)


@pytest.fixture
def handler(tmp_path):
    made = logs.Reopening(str(tmp_path / "server.log"))
    made.setFormatter(logging.Formatter("%(message)s"))
    yield made
    made.close()


def test_what_the_disk_does_not_take_goes_to_standard_error_and_the_file_ends_with_whole_lines(handler, capsys, monkeypatch):
    room = [8]  # bytes that the disk still has

    def write(fd, data):
        took = min(room[0], len(data))
        if not took:
            raise OSError(28, "No space left on device")
        room[0] -= took
        return real(fd, data[:took])

    real = logs.os.write
    monkeypatch.setattr(logs.os, "write", write)
    for words in ("one", "two", "three", "four"):  # "one\n" and "two\n" fit, then nothing
        handler.emit(record(words))
    said = capsys.readouterr().err
    assert said.splitlines()[1:] == ["three", "four"] and said.count("No space left") == 1
    room[0] = 3
    handler.emit(record("five"))  # the beginning of the line that says how many are missing
    room[0] = 1000
    handler.emit(record("six"))
    lines = Path(handler.path).read_text().splitlines()
    assert lines[:2] == ["one", "two"] and lines[-1] == "six"
    assert [line.split()[0] for line in lines[2:-1]] == ["2", "3"]  # once cut and completed, once whole
    handler.emit(record("seven"))
    assert Path(handler.path).read_text().endswith("six\nseven\n")


def test_a_log_that_cannot_be_opened_again_goes_on_in_the_old_file(handler, tmp_path, caplog):
    handler.path = str(tmp_path / "nowhere" / "server.log")
    handler.reopen()
    handler.emit(record("still here"))
    assert (tmp_path / "server.log").read_text() == "still here\n"
