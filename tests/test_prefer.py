"""`Prefer`: what is read of it, and what is ignored."""

import pytest

from fairlead.core.message import Request
from fairlead.wire.prefer import preferences, wait_of


def asked(*values):
    return preferences(Request("GET", "http", b"h", b"/", [(b"prefer", value) for value in values]))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        ([b"respond-async"], {"respond-async": ""}),
        ([b"respond-async, wait=10"], {"respond-async": "", "wait": "10"}),
        ([b"respond-async", b"Wait = 10; x=y"], {"respond-async": "", "wait": "10"}),
        ([b"wait=10, wait=20"], {"wait": "10"}),
        ([b'a="x, \\"y\\"", b'], {"a": 'x, "y"', "b": ""}),
        ([b", ,;=, wait="], {"wait": ""}),
        ([b'a="never closed, b=1'], {"a": ""}),
    ],
)
def test_what_is_read(values, found):
    assert asked(*values) == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"wait=0", 0.0), (b"wait=25", 25.0), (b'wait="7"', 7.0), (b"wait=99999999999999", 3600.0),
        (b"wait=-1", None), (b"wait=1.5", None), (b"wait", None),
    ],
)  # fmt: skip
def test_how_long_to_wait(value, seconds):
    assert wait_of(asked(value)) == seconds
