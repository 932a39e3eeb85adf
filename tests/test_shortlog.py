"""run.shortlog: what a developer sees of each request."""

import json
import os
import pty
from types import SimpleNamespace

import pytest

from fairlead.run.log import access_log
from fairlead.run.shortlog import Short


def line(status=200, steps=None, end="-", target="/orders/7", method="GET"):
    said = {
        "time": "2026-11-25T21:40:07.123Z", "method": method, "target": target, "status": status, "total_ms": 4.08,
        "steps": steps or {}, "end": end, "id": "x", "route": "/*",
    }  # fmt: skip
    return json.dumps(said).encode() + b"\n"


def short(*lines, colour=False):
    said = []
    Short(said.append, colour)(b"".join(lines))
    return b"".join(said).decode()


def test_a_line_says_when_what_status_how_long_and_the_slowest_step():
    said = short(line(steps={"process": 3.6, "encode": 0.01, "send": 0.7}))
    assert said == "21:40:07  GET    /orders/7                        200      4.1 ms   process 3.6\n"


def test_short_steps_are_not_named_and_early_ends_are():
    assert short(line(steps={"process": 0.2})).rstrip().endswith("4.1 ms")
    assert short(line(499, end="client-left")).rstrip().endswith("client-left")
    assert " --- " in short(line(0))


@pytest.mark.parametrize("status, code", [(200, "32"), (304, "36"), (404, "33"), (500, "31"), (0, "31")])
def test_colours_go_by_the_class_of_the_status(status, code, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert f"\x1b[{code}m" in short(line(status), colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in short(line(status), colour=True)


def test_what_is_no_such_line_goes_on_as_it_is():
    assert short(b"anything\n", b"[1]\n") == "anything\n[1]\n"
    assert short(line(), line(404)).count("\n") == 2


def test_auto_is_short_on_a_terminal_and_text_elsewhere(tmp_path, monkeypatch):
    def settings(access, form="auto"):
        return SimpleNamespace(access=access, format=form, buffer=4096, query=True)

    log = access_log(settings(str(tmp_path / "access.log")))
    assert not log.json
    log.close()
    master, slave = pty.openpty()
    saved = os.dup(1)
    os.dup2(slave, 1)
    try:
        log = access_log(settings("-"))
        assert log.json and isinstance(log.write, Short)
        log.close()
    finally:
        os.dup2(saved, 1)
        for fd in (saved, master, slave):
            os.close(fd)
