"""serve.conditions: validators and ranges, by table."""

import pytest

from fairlead.core.message import Request
from fairlead.serve.conditions import decide, http_date, ranges, tags, wants_range

NOW = 1_700_000_000
ETAG = b'"v1"'


def asked(**fields):
    headers = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    return Request("GET", "http", b"a", b"/", headers)


@pytest.mark.parametrize(
    "fields, status",
    [
        ({}, 200),
        ({"if_match": b'"v1"'}, 200),
        ({"if_match": b"*"}, 200),
        ({"if_match": b'"v0", "v1"'}, 200),
        ({"if_match": b'"v0"'}, 412),
        ({"if_match": b'W/"v1"'}, 412),
        ({"if_none_match": b'"v1"'}, 304),
        ({"if_none_match": b'W/"v1"'}, 304),
        ({"if_none_match": b"*"}, 304),
        ({"if_none_match": b'"v0", "v2"'}, 200),
        ({"if_modified_since": http_date(NOW)}, 304),
        ({"if_modified_since": http_date(NOW - 1)}, 200),
        ({"if_modified_since": b"yesterday"}, 200),
        ({"if_modified_since": b"Sun, 06 Nov 9999999 08:49:37 GMT"}, 200),
        ({"if_unmodified_since": http_date(NOW)}, 200),
        ({"if_unmodified_since": http_date(NOW - 1)}, 412),
        ({"if_none_match": b'"v0"', "if_modified_since": http_date(NOW)}, 200),
        ({"if_match": b'"v1"', "if_unmodified_since": http_date(0)}, 200),
        ({"if_match": b'"v1"', "if_none_match": b'"v1"'}, 304),
    ],
)
def test_conditions_in_the_order_of_the_rfc(fields, status):
    assert decide(asked(**fields), ETAG, NOW) == status


@pytest.mark.parametrize(
    "fields, counts",
    [
        ({}, False),
        ({"range": b"bytes=0-1"}, True),
        ({"range": b"bytes=0-1", "if_range": b'"v1"'}, True),
        ({"range": b"bytes=0-1", "if_range": b'"v0"'}, False),
        ({"range": b"bytes=0-1", "if_range": b'W/"v1"'}, False),
        ({"range": b"bytes=0-1", "if_range": http_date(NOW)}, True),
        ({"range": b"bytes=0-1", "if_range": http_date(NOW + 1)}, False),
        ({"range": b"bytes=0-1", "if_range": b"junk"}, False),
    ],
)
def test_if_range(fields, counts):
    assert bool(wants_range(asked(**fields), ETAG, NOW)) is counts


@pytest.mark.parametrize(
    "value, wanted",
    [
        (b"bytes=0-0", [(0, 0)]),
        (b"bytes=0-", [(0, 99)]),
        (b"bytes=-1", [(99, 99)]),
        (b"bytes=-200", [(0, 99)]),
        (b"bytes=90-200", [(90, 99)]),
        (b"Bytes = 1-2", [(1, 2)]),
        (b"bytes=1-2, 50-60", [(1, 2), (50, 60)]),
        (b"bytes=50-60,1-2", [(50, 60), (1, 2)]),
        (b"bytes=0-10,5-20", [(0, 20)]),
        (b"bytes=0-10,11-20,90-", [(0, 20), (90, 99)]),
        (b"bytes=100-", []),
        (b"bytes=-0", []),
        (b"bytes=200-300,5-6", [(5, 6)]),
        (b"bytes=", None),
        (b"bytes=-", None),
        (b"bytes=2-1", None),
        (b"bytes=a-b", None),
        (b"bytes=1-2;3-4", None),
        (b"bytes 1-2", None),
        (b"lines=1-2", None),
        (b"bytes=" + b"0-1," * 17, None),
        (b"bytes=99999999999999999999-", None),
    ],
)
def test_ranges_of_a_hundred_bytes(value, wanted):
    assert ranges(value, 100) == wanted


def test_no_range_of_nothing_can_be_satisfied():
    assert ranges(b"bytes=0-", 0) == [] and ranges(b"bytes=-5", 0) == []


@pytest.mark.parametrize(
    "value, found", [(b"*", None), (b'"a", W/"b"', [b'"a"', b'W/"b"']), (b"junk", []), (b'"a" junk', [])]
)
def test_lists_of_tags(value, found):
    assert tags(value) == found
