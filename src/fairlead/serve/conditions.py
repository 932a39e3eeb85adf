"""Conditional requests and ranges, as pure functions. RFC 9110 sections 13 and 14.

Rules
1. Conditions are evaluated in the order of section 13.2.2: If-Match, else If-Unmodified-Since; then If-None-Match, else
   If-Modified-Since; last If-Range, which only decides whether Range counts.
2. A date that cannot be read is no condition. Dates have seconds, so a file's time is compared without its fraction.
3. A Range that is not well-formed, not in bytes, or asks for too much (more than MOST_RANGES) is ignored: the answer is whole.
   Ranges that overlap or touch are joined; if none can be satisfied the answer is 416.
"""

from __future__ import annotations

import re

from fairlead.core.message import http_date as http_date

MOST_RANGES = (
    16  # Apache allows 200 and joins, nginx max_ranges is unlimited; a player asks for one, a reader of PDF for a few
)
RANGE = re.compile(rb"(\d{0,18})-(\d{0,18})\Z")
TAG = re.compile(rb'\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|\Z)')


def read_date(value):
    """Seconds since 1970 of an HTTP date, or None."""
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(value.decode("latin-1")).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def tags(value):
    """The entity tags of a list, or None for "*"."""
    if value.strip() == b"*":
        return None
    found, at = [], 0
    while match := TAG.match(value, at):
        found.append(match[1])
        at = match.end()
    return found


def matches(value, etag, strong):
    """Does an If-Match (strong comparison) or If-None-Match (weak) list hold our tag? Section 8.8.3.2."""
    listed = tags(value)
    if listed is None:
        return True
    if strong:
        return not etag.startswith(b"W/") and etag in listed
    plain = etag.removeprefix(b"W/")
    return any([one.removeprefix(b"W/") == plain for one in listed])


def decide(request, etag, modified):
    """200 to answer, 304 or 412 by the request's conditions on a thing with this tag and time (whole seconds)."""
    value = request.get(b"if-match")
    if value is not None:
        if not matches(value, etag, True):
            return 412
    else:
        value = request.get(b"if-unmodified-since")
        date = read_date(value) if value is not None else None
        if date is not None and modified > date:
            return 412
    value = request.get(b"if-none-match")
    if value is not None:
        return 304 if matches(value, etag, False) else 200
    value = request.get(b"if-modified-since")
    date = read_date(value) if value is not None else None
    return 304 if date is not None and modified <= date else 200


def wants_range(request, etag, modified):
    """The Range that counts: b"" when there is none or If-Range (section 13.1.5) says that the thing has changed."""
    value = request.get(b"range")
    if value is None:
        return b""
    condition = request.get(b"if-range")
    if condition is None:
        return value
    if b'"' in condition:
        return value if condition.strip() == etag and not etag.startswith(b"W/") else b""
    return value if read_date(condition) == modified else b""


def ranges(value, size):
    """[(first, last)] of a Range value over `size` bytes, joined and in order; None to ignore it, [] for 416."""
    unit, found, rest = value.partition(b"=")
    if not found or unit.strip().lower() != b"bytes":
        return None
    parts = [part for part in map(bytes.strip, rest.split(b",")) if part]
    if not parts or len(parts) > MOST_RANGES:
        return None
    wanted = []
    for part in parts:
        match = RANGE.match(part)
        if match is None or part == b"-":
            return None
        first, last = match[1], match[2]
        if not first:
            start, stop = max(0, size - int(last)), size - 1
        else:
            start, stop = int(first), int(last) if last else size - 1
            if last and start > stop:
                return None
        if start < size and start <= stop:
            wanted.append((start, min(stop, size - 1)))
    return joined(wanted)


def joined(pairs):
    """Pairs that overlap or touch made one; the order asked for stays where nothing is joined (section 15.3.7.2)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return pairs if len(merged) == len(pairs) else merged
