"""httplint as a judge: what it has to say against one raw answer."""

from __future__ import annotations

import contextlib
import io
import socket
from argparse import Namespace

import pytest

pytest.importorskip("httplint")

from httplint.cli.http_parser import HttpCliParser, modes
from httplint.note import levels


def exchange(port: int, request: bytes) -> bytes:
    """One raw request and everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(request)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def complaints(answer: bytes) -> list[str]:
    """Every note of the levels "bad" and "warning", sub-notes included."""
    parser = HttpCliParser(Namespace(mode=modes.RESPONSE))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        parser.handle_input(answer)
    assert not parser.failed and hasattr(parser, "linter"), (answer[:300], said.getvalue())
    notes = [*parser.linter.notes, *(sub for note in parser.linter.notes for sub in note.subnotes)]
    return [f"{note.level.name}: {note.summary}" for note in notes if note.level in (levels.BAD, levels.WARN)]
