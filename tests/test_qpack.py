"""QPACK beside ls-qpack (pylsqpack), both ways; bombs, bent instructions, and the static table."""

from __future__ import annotations

import pylsqpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.errors import WireError
from fairlead.wire.hpack import integer
from fairlead.wire.qpack import STATIC, Decoder, Encoder
from h3kit import prefixed

NAMES = st.sampled_from(
    [b"x-a", b"x-b", b"cookie", b"authorization", b"content-type", b"accept", b":path", b":status", b"date"]
)
FIELD = st.tuples(NAMES, st.text("abc xyz-/=01%", max_size=80).map(lambda text: text.strip().encode()))
SECTIONS = st.lists(st.lists(FIELD, min_size=1, max_size=8), min_size=1, max_size=12)


def test_the_static_table_is_the_rfcs():
    theirs = pylsqpack.Decoder(0, 0)
    assert len(STATIC) == 99
    for i, field in enumerate(STATIC):
        out = bytearray(b"\0\0")
        integer(out, 0xC0, 63, i)
        assert theirs.feed_header(4 * i, bytes(out))[1] == [field]


@settings(max_examples=60, deadline=None)
@given(sections=SECTIONS)
def test_what_we_write_they_read(sections):
    ours, theirs = Encoder(), pylsqpack.Decoder(4096, 16)
    for i, fields in enumerate(sections):
        out = bytearray(b"\0\0")
        for field in fields:
            ours.add(out, field)
        said, got = theirs.feed_header(4 * i, bytes(out))
        assert got == fields
        ours.heard(said)


@settings(max_examples=60, deadline=None)
@given(sections=SECTIONS, table=st.sampled_from([0, 64, 256, 4096]), blocked=st.integers(0, 16), cut=st.integers(1, 50))
def test_what_they_write_we_read(sections, table, blocked, cut):
    theirs, ours = pylsqpack.Encoder(), Decoder(allowed=table)
    said = theirs.apply_settings(table, blocked)
    for i, fields in enumerate(sections):
        more, block = theirs.encode(4 * i, fields)
        said += more
        if i % 3 == 2:  # the encoder stream comes late, and in pieces
            got = ours.section(block, 0, len(block))
            assert got is None or (got == fields)
            assert (got is None) == (ours.wanted > ours.inserted)
        while said:
            ours.instructions(said[:cut])
            said = said[cut:]
        assert ours.section(block, 0, len(block)) == fields
        assert ours.size <= ours.capacity <= table
        if ours.wanted:
            ours.acknowledge(4 * i, ours.wanted)
        back = ours.said()
        if back:
            theirs.feed_decoder(back)


def test_credentials_are_never_indexed():
    for name in (b"authorization", b"cookie"):
        out = bytearray()
        Encoder().add(out, (name, b"secret"))
        assert out[0] & 0xF0 == 0x70, "a literal with the name of the static table and the N bit (section 4.5.4)"


def test_a_section_that_repeats_a_large_entry_holds_no_more_than_allowed():
    decoder = Decoder(most=65536, fields=1 << 40)
    decoder.instructions(b"\x3f\xe1\x1f" + b"\x43big" + prefixed(4000, 0, 127) + b"x" * 4000)
    assert decoder.section(b"\2\0" + b"\x80" * 100_000, 0, 100_002) == [] or decoder.over
    assert decoder.over
    assert decoder.total == 65536


def test_the_table_lets_the_oldest_go():
    decoder = Decoder()
    decoder.instructions(b"\x3f\xe1\x1f")
    for i in range(500):
        decoder.instructions(b"\x43x-a\3%03d" % i)
    assert decoder.size <= 4096
    assert decoder.inserted == 500
    named = prefixed(500 % 256 + 1, 0, 255) + b"\0"
    assert decoder.section(named + b"\x80", 0, len(named) + 1) == [(b"x-a", b"499")]
    with pytest.raises(WireError, match="beyond the table"):  # the first is long gone
        decoder.section(named + prefixed(499, 0x80, 63), 0, len(named) + 3)


@pytest.mark.parametrize("raw", [b"\x3f" + b"\xff" * 8, b"\xff" + b"\xff" * 8, b"\x5f" + b"\xff" * 8])
def test_an_instruction_without_end_is_an_error(raw):
    with pytest.raises(WireError) as raised:
        Decoder().instructions(raw)
    assert raised.value.code == 0x201


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200), cut=st.integers(1, 30))
def test_any_instructions_are_taken_alike_however_they_are_cut(raw, cut):
    def run(pieces):
        decoder = Decoder()
        try:
            for piece in pieces:
                decoder.instructions(piece)
        except WireError as error:
            return error.code
        return decoder.table, decoder.inserted, decoder.capacity

    raw = b"\x3f\xe1\x1f" + raw
    assert run([raw]) == run([raw[i : i + cut] for i in range(0, len(raw), cut)])


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=200))
def test_any_section_is_a_list_or_an_error(raw):
    decoder = Decoder()
    decoder.instructions(b"\x3f\xe1\x1f" + b"\x41a\1b" * 4)
    try:
        found = decoder.section(raw, 0, len(raw))
    except WireError as error:
        assert error.code == 0x200
        return
    assert found is None or all(len(field) in (2, 3) for field in found)
