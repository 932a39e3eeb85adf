"""Seconds of differential fuzzing of HTTP/1.x, with a fixed seed and the saved corpus; `make soak` runs it for long."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("h11")
pytest.importorskip("httptools")

PATH = Path(__file__).parent.parent / "fuzz" / "h1_differential.py"
spec = importlib.util.spec_from_file_location("h1_differential", PATH)
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


def test_no_message_is_framed_otherwise_than_by_llhttp_and_h11_and_no_split_matters(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "save", lambda data, client: None)
    assert fuzz.run(1, seed=20261123) == []


def test_the_corpus_is_there():
    assert len(list(fuzz.CORPUS.glob("*.bin"))) > 20
