"""The server's own log outlives what applications and peers do to it."""

import logging
import logging.config
import ssl
import sys
from types import SimpleNamespace

from fairlead.run import logs


def test_an_application_that_disables_existing_loggers_does_not_silence_ours():
    ours, theirs = logging.getLogger("fairlead.error"), logging.getLogger("somebody.else")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    assert ours.disabled and theirs.disabled
    logs.reclaim()
    assert not ours.disabled
    assert theirs.disabled
    theirs.disabled = False


def test_a_tls_name_that_is_none_is_one_quiet_line(caplog, capsys):
    logs.reclaim()
    what = SimpleNamespace(object=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), exc_value=ValueError("no name"))
    logging.getLogger("fairlead").propagate = True
    with caplog.at_level(logging.DEBUG, logger="fairlead"):
        logs.unraisable(what)
    assert "server name" in caplog.text
    assert capsys.readouterr().err == ""


def test_anything_else_unraisable_is_shown_as_always(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "__unraisablehook__", shown.append)
    what = SimpleNamespace(object=print, exc_value=ValueError())
    logs.unraisable(what)
    assert shown == [what]
