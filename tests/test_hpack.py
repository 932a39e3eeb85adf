"""HPACK (RFC 7541): the appendix's examples, blocks of seven other encoders, and what must not be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.errors import WireError
from fairlead.wire import huffman
from fairlead.wire.hpack import STATIC, Decoder, Encoder

HERE = Path(__file__).parent
MORE = HERE.parent.parent / "shared" / "data" / "hpack"


def decode(decoder: Decoder, text: str) -> list[tuple[bytes, bytes]]:
    raw = bytes.fromhex(text)
    return decoder.decode(raw, 0, len(raw))


def fields(text: str) -> list[tuple[bytes, bytes]]:
    """`name: value` lines as a header list."""
    found = []
    for line in text.strip().splitlines():
        name, _, value = line.strip().rpartition(": ") if line.strip().startswith(":") else line.strip().partition(": ")
        found.append((name.encode(), value.encode()))
    return found


def encoded(encoder: Encoder, given: list[tuple[bytes, bytes]]) -> bytes:
    out = bytearray()
    encoder.begin(out)
    for field in given:
        encoder.add(out, field)
    return bytes(out)


# ---- appendix C

SINGLE = [
    (
        "C.2.1",
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        (b"custom-key", b"custom-header"),
        55,
    ),
    ("C.2.2", "040c 2f73 616d 706c 652f 7061 7468", (b":path", b"/sample/path"), 0),
    ("C.2.3", "1008 7061 7373 776f 7264 0673 6563 7265 74", (b"password", b"secret"), 0),
    ("C.2.4", "82", (b":method", b"GET"), 0),
]


@pytest.mark.parametrize(("section", "wire", "field", "size"), SINGLE, ids=[one[0] for one in SINGLE])
def test_one_field_of_each_kind(section, wire, field, size):
    decoder = Decoder()
    assert decode(decoder, wire) == [field]
    assert decoder.size == size


REQUESTS = (
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
)
RESPONSES = (
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n"
    "content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
)
TALKS = [
    ("C.3", 4096, REQUESTS, (57, 110, 164), (
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    )),
    ("C.4", 4096, REQUESTS, (57, 110, 164), (
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    )),
    ("C.5", 256, RESPONSES, (222, 222, 215), (
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d "
        "546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f "
        "6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b "
        "2076 6572 7369 6f6e 3d31",
    )),
    ("C.6", 256, RESPONSES, (222, 222, 215), (
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 "
        "8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 "
        "dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("section", "table", "lists", "sizes", "wire"), TALKS, ids=[one[0] for one in TALKS])
def test_the_talks_of_appendix_c(section, table, lists, sizes, wire):
    decoder = Decoder()
    decoder.capacity = table
    for text, size, block in zip(lists, sizes, wire, strict=True):
        assert decode(decoder, block) == fields(text)
        assert decoder.size == size


def test_the_static_table_has_61_entries_in_order():
    assert len(STATIC) == 62
    assert STATIC[1] == (b":authority", b"") and STATIC[16] == (b"accept-encoding", b"gzip, deflate")
    assert STATIC[61] == (b"www-authenticate", b"")


# ---- other encoders


def stories() -> Iterator[tuple[str, list, list]]:
    """(encoder and story, [(size or None, block)], header lists) of tests/data."""
    story, lists, name = "", [], ""
    blocks: list = []
    for line in [*(HERE / "data" / "hpack_cases.txt").read_text(encoding="utf-8").split("\n"), "story end"]:
        if line.startswith("#"):
            continue
        if line.startswith(("story ", "encoder ")):
            if name:
                yield f"{name} {story}", blocks, lists[:-1] if lists and not lists[-1] else lists
            name, blocks = "", []
        if line.startswith("story "):
            story, lists = line[6:], [[]]
        elif line.startswith("encoder "):
            name = line[8:]
        elif name:
            if line:
                size, _, wire = line.rpartition(": ")
                blocks.append((int(size[5:]) if size else None, wire))
        elif not line:
            lists.append([])
        elif lists:
            field, _, value = line.partition("\t")
            lists[-1].append((field.encode("latin-1"), value.encode("latin-1")))


STORIES = list(stories())


@pytest.mark.parametrize(("name", "blocks", "lists"), STORIES, ids=[one[0] for one in STORIES])
def test_blocks_of_other_encoders_are_read_and_ours_are_read_back(name, blocks, lists):
    decoder, encoder, back = Decoder(), Encoder(), Decoder()
    decoder.allowed = 65536
    assert len(blocks) == len(lists) > 0
    for (_, wire), wanted in zip(blocks, lists, strict=True):
        assert [field[:2] for field in decode(decoder, wire)] == wanted
        ours = encoded(encoder, wanted)
        assert [field[:2] for field in back.decode(ours, 0, len(ours))] == wanted
        assert back.size == encoder.size


@pytest.mark.skipif(
    not MORE.is_dir(), reason="the whole hpack-test-case selection is not here; tests/data has a part of it"
)
def test_every_block_of_the_large_selection():
    count = 0
    for path in sorted(MORE.glob("*/story_*.json")):
        decoder = Decoder(1 << 20, 1000)
        decoder.allowed = 65536
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            wanted = [(k.encode("latin-1"), v.encode("latin-1")) for one in case["headers"] for k, v in one.items()]
            assert [field[:2] for field in decode(decoder, case["wire"])] == wanted, path
            count += 1
    assert count > 5000


# ---- what must not be believed

BROKEN = {
    "index 0": "80",
    "an index beyond both tables": "c0",
    "an index far beyond": "ffffff03",
    "an integer of more than 28 bits": "ffffffffffff7f",
    "an integer that never ends": "ff808080808080808000",
    "an integer cut short": "ff80",
    "a name whose index is beyond": "7f80ff03",
    "a string cut short": "0005616263",
    "a string without its length": "0003616263",
    "a block that ends behind a name's index": "44",
    "a size update behind a field": "8220",
    "a size update above what we allow": "3fe21f",
    "padding longer than seven bits": "000161821fff",
    "padding that is not all ones": "0001618118",
    "EOS inside a string": "00016184ffffffff",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_hpack_breaks_the_connection(name):
    with pytest.raises(WireError) as caught:
        decode(Decoder(), BROKEN[name])
    assert caught.value.rule == "bad-hpack"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        (b"Upper", b"v", "upper-case"),
        (b"a b", b"v", "bad-field-name"),
        (b"", b"v", "bad-field-name"),
        (b"a:b", b"v", "bad-field-name"),
        (b"a", b"v\r\nx: y", "bad-field-value"),
        (b"a", b"v\0", "bad-field-value"),
        (b"a", b" v", "space-around-value"),
        (b"a", b"v\t", "space-around-value"),
    ],
)
def test_a_bad_field_is_bad_again_when_the_table_repeats_it(name, value, rule):
    decoder = Decoder()
    literal = b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value
    decoder.decode(literal + b"\x82", 0, len(literal) + 1)
    assert decoder.bad == rule
    assert decode(decoder, "82") == [(b":method", b"GET")] and decoder.bad == ""
    decode(decoder, "be")
    assert decoder.bad == rule


def test_a_small_block_that_means_a_huge_list_is_not_kept():
    decoder = Decoder(most=65536)
    value = b"x" * 4000
    bomb = b"\x40\x01a\x7f" + bytes((4000 - 127 & 127 | 128, (4000 - 127) >> 7)) + value + b"\xbe" * 60000
    assert decoder.decode(bomb, 0, len(bomb)) == [] or decoder.over
    assert decoder.over and decoder.total <= 65536 and decoder.size == 4033
    assert decode(decoder, "82") == [(b":method", b"GET")] and not decoder.over


def test_more_fields_than_allowed_are_over_the_limit():
    decoder = Decoder(fields=10)
    decode(decoder, "82" * 10)
    assert not decoder.over
    decode(decoder, "82" * 11)
    assert decoder.over


def test_the_table_shrinks_and_grows_as_the_peer_says():
    decoder = Decoder()
    decode(decoder, "4001610162 4001630164".replace(" ", ""))
    assert decoder.size == 68
    assert decode(decoder, "3f03 be".replace(" ", "")) == [(b"c", b"d")] and decoder.size == 34
    decode(decoder, "20")
    assert decoder.size == 0 and decoder.table == []
    decode(decoder, "3fe11f" + "4001610162")
    assert decoder.size == 34


def test_an_entry_larger_than_the_table_empties_it():
    decoder = Decoder()
    decoder.capacity = 60
    decode(decoder, "4001610162")
    decode(decoder, "40016128" + "62" * 40)
    assert decoder.table == [] and decoder.size == 0


# ---- what we write


def test_what_repeats_costs_one_byte():
    encoder = Encoder()
    given = [(b":status", b"200"), (b"content-type", b"text/html"), (b"server", b"fairlead"), (b"x-custom", b"1")]
    first = encoded(encoder, given)
    assert len(encoded(encoder, given)) == 4 < len(first)


@pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"])
def test_secrets_are_never_indexed(name):
    encoder = Encoder()
    first = encoded(encoder, [(name, b"secret")])
    assert first[0] & 0xF0 == 0x10
    assert encoded(encoder, [(name, b"secret")]) == first
    assert encoder.order == []


def test_paths_and_lengths_do_not_push_others_out():
    encoder = Encoder()
    encoded(encoder, [(b":path", b"/%d" % i) for i in range(100)] + [(b"content-length", b"17")])
    assert encoder.order == []


def test_the_peer_may_allow_a_smaller_table_or_none():
    encoder, decoder = Encoder(), Decoder()
    given = [(b"x-one", b"1"), (b"x-two", b"2")]
    first = encoded(encoder, given)
    decoder.decode(first, 0, len(first))
    encoder.resize(0)
    encoder.resize(100)
    block = encoded(encoder, given)
    assert block.startswith(b"\x20\x3f\x45")
    assert decoder.decode(block, 0, len(block)) == given
    assert decoder.size == encoder.size == 76 and decoder.capacity == 100


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_huffman_gives_back_what_it_was_given(text):
    out = bytearray()
    huffman.encode(out, text)
    assert len(out) == huffman.size_of(text)
    assert huffman.decoded(bytes(out), 0, len(out), bytearray(16)) == text


NAME = st.text("abcdefgh-", min_size=1, max_size=12).map(str.encode)
VALUE = st.text("abc XYZ0123;=/.,", max_size=40).map(lambda text: text.strip().encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(NAME, VALUE), max_size=12), max_size=8), st.sampled_from([0, 64, 200, 4096]))
def test_both_tables_stay_equal_whatever_is_said(lists, size):
    encoder, decoder = Encoder(), Decoder()
    encoder.resize(size)
    for one in lists:
        block = encoded(encoder, one)
        assert decoder.decode(block, 0, len(block)) == one
        assert decoder.size == encoder.size <= size
        assert decoder.table == encoder.order


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_list_or_an_error(junk):
    decoder = Decoder(most=2000, fields=20)
    try:
        found = decoder.decode(junk, 0, len(junk))
    except WireError as error:
        assert error.rule == "bad-hpack"
        return
    assert len(found) <= 20 and decoder.total <= 2000 and decoder.size <= 4096
