"""Server-sent events: what we write, a client reads, however it is cut; nothing in a field ends a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.wire import sse


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=20), st.data())
def test_what_is_written_is_read(text, name, token, draw):
    data = text.encode("utf-8", "ignore")
    written = sse.event(data, name, token).decode()
    parser, found, at = sse.Parser(), [], 0
    while at < len(written):
        step = draw.draw(st.integers(1, 50))
        found += parser.feed(written[at : at + step])
        at += step
    clean = str.maketrans("", "", "\r\n\0")
    want = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    (heard,) = found
    assert heard.data == want and heard.token == token.translate(clean)
    assert heard.name == (name.translate(clean) or "message")


def test_a_priming_event_sets_the_place_and_is_no_event():
    parser = sse.Parser()
    assert parser.feed(sse.priming("7_9", 1500).decode()) == [] and (parser.token, parser.retry) == ("7_9", 1500)
    assert parser.feed(sse.BEAT.decode()) == []


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_every_line_end_counts(end):
    parser = sse.Parser()
    text = end.join([": hi", "event: a", "id: 1", "data: x", "data:y", "data", "retry: 20", "retry: x", "other: z", "", ""])
    found = [one for char in text for one in parser.feed(char)]
    assert found + parser.feed("\n") == [sse.Heard("a", "x\ny\n", "1")] and parser.retry == 20


def test_an_event_without_an_end_is_bounded():
    parser = sse.Parser(most=100)
    with pytest.raises(ValueError, match="larger than 100"):
        parser.feed("data: " + "x" * 200)
