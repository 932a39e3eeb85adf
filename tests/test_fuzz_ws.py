"""Seconds of fuzzing of wire.ws, with a fixed seed; `make soak` runs it for long."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("websockets")

PATH = Path(__file__).parent.parent / "fuzz" / "ws.py"
spec = importlib.util.spec_from_file_location("fuzz_ws", PATH)
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


def test_frames_mean_what_websockets_makes_of_them_at_any_split(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "save", lambda data, client, deflate: None)
    assert fuzz.run(1, seed=20261125) == []


def test_a_difference_would_be_seen(monkeypatch):
    monkeypatch.setattr(fuzz, "save", lambda data, client, deflate: None)
    monkeypatch.setattr(fuzz, "theirs", lambda data, client, deflate: ([("text", "else")], False))
    assert fuzz.run(1, seed=1)
