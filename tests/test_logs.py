"""The server's own log outlives what applications and peers do to it."""

import logging
import logging.config
import ssl
import sys
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
