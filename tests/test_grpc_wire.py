"""wire.grpc, grpcwords and grpccoding: messages cut anywhere, limits, and what gRPC writes into fields."""

import base64
import gzip
import importlib.util
import zlib
from pathlib import Path

import pytest

import kit
from fairlead.core.errors import WireError
from fairlead.wire import grpccoding
from fairlead.wire.grpc import Reader, message, say_timeout, timeout_of
from fairlead.wire.grpcwords import (
    Text,
    hear_message,
    hear_metadata,
    say_message,
    say_metadata,
    status_name,
    to_text,
    web_trailers,
)

ROOT = Path(__file__).parent.parent
BODY = message(b"", False) + message(b"one", False) + message(b"x" * 300, True) + message(b"three", False)


def read(data, split="whole", most=1000):
    """(messages, rule) of a body cut in a way of the kit."""
    reader = Reader(most)
    found, rule = [], ""
    try:
        for piece in kit.pieces(data, split):
            reader.feed(piece)
        reader.end()
    except WireError as error:
        rule = error.rule
    while (one := reader.next()) is not None:
        found.append(one)
    assert reader.count == 0 and reader.waiting == 0
    return found, rule


@pytest.mark.parametrize("split", kit.SPLITS)
def test_messages_are_whole_however_the_body_was_cut(split):
    assert read(BODY, split) == ([b"", b"one", (b"x" * 300,), b"three"], "")
    assert read(b"", split) == ([], "")


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize(
    "junk, rule",
    [
        (b"\x02\0\0\0\1a", "grpc-flag"),
        (b"\x80\0\0\0\1a", "grpc-flag"),
        (b"\0\0\0\x03\xe9", "grpc-too-long"),
        (b"\0\xff\xff\xff\xff", "grpc-too-long"),
        (b"\0\0\0\0", "grpc-cut"),
        (b"\0\0\0\0\x05abcd", "grpc-cut"),
    ],
)
def test_what_is_no_message_is_refused_and_what_was_whole_before_stays(split, junk, rule):
    assert read(message(b"one", False) + junk, split) == ([b"one"], rule)


def test_a_message_of_the_limit_fits_and_nothing_of_a_longer_one_is_kept():
    reader = Reader(10)
    reader.feed(message(b"x" * 10, False))
    assert reader.next() == b"x" * 10
    with pytest.raises(WireError, match="11 bytes is longer than the limit of 10"):
        reader.feed(b"\0\0\0\0\x0b" + b"x" * 5)
    assert reader.held == 0


def test_without_a_limit_a_length_alone_takes_no_memory():
    reader = Reader(0)
    reader.feed(b"\0\xff\xff\xff\xffab")
    assert reader.held == 2


@pytest.mark.parametrize(
    "value, ns",
    [(b"1H", 3600 * 10**9), (b"2M", 120 * 10**9), (b"3S", 3 * 10**9), (b"4m", 4 * 10**6), (b"5u", 5000), (b"6n", 6),
     (b"99999999H", 1 << 62), (b"0S", 0)],
)  # fmt: skip
def test_timeouts(value, ns):
    assert timeout_of(value) == ns


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S", b"1S ", b"\xd9\xa1S", b"1\0S"])
def test_what_is_no_timeout(value):
    with pytest.raises(WireError) as caught:
        timeout_of(value)
    assert caught.value.rule == "grpc-timeout"


@pytest.mark.parametrize("ns", [1, 999, 10**6, 123456789, 5 * 10**9, 3600 * 10**9 * 500, 10**18])
def test_a_timeout_that_is_said_is_heard_and_never_longer(ns):
    again = timeout_of(say_timeout(ns))
    assert ns * 0.99 < again <= ns
    assert say_timeout(0) == say_timeout(-5) == b"0n"


def test_status_messages_are_percent_encoded():
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n 100%"
    said = say_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in said) and b"test with whitespace" in said and b"100%25" in said
    assert hear_message(said) == text
    assert hear_message(b"50% off %zz %") == "50% off %zz %"
    assert hear_message(b"%ff") == "�"
    assert [status_name(code) for code in (0, 5, 16, 99)] == ["OK", "NOT_FOUND", "UNAUTHENTICATED", "99"]


def test_metadata_in():
    raw = b"\0\1\xfe\xff"
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"x"), (b"k", b"1"), (b"k", b"2"),
              (b"a-bin", base64.b64encode(raw)), (b"b-bin", base64.b64encode(raw).rstrip(b"=")),
              (b"c-bin", base64.b64encode(b"1") + b"," + base64.b64encode(b"22")), (b"grpc-timeout", b"1S")]  # fmt: skip
    assert hear_metadata(fields) == [
        ("user-agent", "x"), ("k", "1"), ("k", "2"), ("a-bin", raw), ("b-bin", raw), ("c-bin", b"1"), ("c-bin", b"22"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [b"a", b"a?bc", b"====", b"YWI=YWI=", b"YW\xff="])
def test_metadata_that_is_no_base64_is_named(value):
    with pytest.raises(WireError, match=r"the metadata x-bin is not base64"):
        hear_metadata([(b"x-bin", value)])


def test_metadata_out():
    given = (("k", "v"), ("b-bin", b"\0\xff"), ("c", " padded "))
    assert say_metadata(given) == [(b"k", b"v"), (b"b-bin", b"AP8"), (b"c", b"padded")]
    assert say_metadata([("grpc-status-details-bin", b"x")]) == [(b"grpc-status-details-bin", b"eA")]


@pytest.mark.parametrize(
    "pair",
    [("K", "v"), ("k v", "v"), ("grpc-status", "0"), ("content-type", "x"), ("k", "ä"), ("k", "a\r\nb"), ("", "v")],
)
def test_metadata_that_would_break_the_head_is_refused(pair):
    with pytest.raises(ValueError):
        say_metadata([pair])


def test_trailers_of_grpc_web_are_one_frame_and_no_value_adds_a_line():
    frame = web_trailers([(b"grpc-status", b"5"), (b"grpc-message", b"a\r\nb: c")])
    assert frame[0] == 0x80 and int.from_bytes(frame[1:5], "big") == len(frame) - 5
    assert frame[5:] == b"grpc-status: 5\r\ngrpc-message: a b: c\r\n"


@pytest.mark.parametrize("split", kit.SPLITS)
def test_text_bodies_may_be_padded_in_the_middle(split):
    data = to_text(b"a") + to_text(b"bc") + to_text(b"def") + to_text(b"")
    text = Text()
    assert b"".join(text.feed(piece) for piece in kit.pieces(data, split)) == b"abcdef"
    text.end()


@pytest.mark.parametrize("data", [b"YQ", b"Y?==", b"Y===", b"YWJj\n", b"\xff\xff\xff\xff"])
def test_what_is_no_base64_is_said(data):
    text = Text()
    with pytest.raises(WireError, match="not base64"):
        text.feed(data)
        text.end()


@pytest.mark.parametrize("name", grpccoding.NAMES[1:])
def test_compressed_messages(name):
    data = b"wash the car " * 100
    packed = grpccoding.deflate(name, data)
    assert len(packed) < 200 and grpccoding.inflate(name, packed, len(data)) == data
    assert grpccoding.inflate(name, grpccoding.deflate(name, b""), 10) == b""
    with pytest.raises(WireError) as caught:
        grpccoding.inflate(name, packed, len(data) - 1)
    assert caught.value.rule == "grpc-too-long"
    for bad in (packed[:-6], packed + b"x", b"junk", b""):
        with pytest.raises(WireError) as caught:
            grpccoding.inflate(name, bad, 0)
        assert caught.value.rule == "grpc-coding"


def test_a_bomb_stops_at_the_limit():
    with pytest.raises(WireError, match="longer than the limit"):
        grpccoding.inflate("gzip", gzip.compress(b"\0" * 50_000_000), 4 << 20)


def test_deflate_is_zlib():
    assert grpccoding.inflate("deflate", zlib.compress(b"x"), 0) == b"x"


def test_we_compress_only_for_who_takes_it():
    assert grpccoding.choose("gzip", b"identity,deflate, gzip") == "gzip"
    assert grpccoding.choose("gzip", b"identity,xgzip") == grpccoding.choose("gzip", None) == "identity"


def test_seconds_of_fuzzing(monkeypatch):
    spec = importlib.util.spec_from_file_location("fuzz_grpc", ROOT / "fuzz" / "grpc.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    monkeypatch.setattr(fuzz, "save", lambda data: None)
    assert fuzz.run(0.5, seed=20261126) == []
    monkeypatch.setattr(fuzz, "plainly", lambda data, most: ([b"else"], ""))
    assert fuzz.run(0.2, seed=1)
