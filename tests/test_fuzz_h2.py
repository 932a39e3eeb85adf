"""Seconds of fuzzing of HTTP/2 and HPACK with a fixed seed; `make soak` runs them for long."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("hpack")


def fuzzer(name):
    path = Path(__file__).parent.parent / "fuzz" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["h2", "hpack"])
def test_nothing_that_is_made_up_breaks_it(name):
    assert fuzzer(name).run(1, seed=20261125) == []
