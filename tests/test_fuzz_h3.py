"""Seconds of fuzzing of HTTP/3 with a fixed seed; `make soak` runs it for long."""

import importlib.util
from pathlib import Path


def test_nothing_that_is_made_up_breaks_it():
    path = Path(__file__).parent.parent / "fuzz" / "h3.py"
    spec = importlib.util.spec_from_file_location("fuzz_h3", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run(1, seed=20261126) == []
