"""wire.hello: the PROXY protocol's headers, whole, in pieces, and wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.errors import WireError
from fairlead.wire.hello import AUTHORITY, CRC, LARGEST, LINE, SIGNATURE, crc32c, peek, told


def v2(command=1, family=0x11, body=bytes([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0, 80]), extra=b"", length=None):
    size = len(body + extra) if length is None else length
    return SIGNATURE + bytes((0x20 | command, family)) + size.to_bytes(2, "big") + body + extra


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


GOOD = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n", ("192.0.2.1", 4660), ("192.0.2.2", 80)),
    (b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", ("2001:db8::1", 1), ("::1", 65535)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", None, None),
    (v2(), ("192.0.2.1", 4660), ("192.0.2.2", 80)),
    (v2(0), None, None),
    (v2(0, 0x00, b""), None, None),
    (v2(1, 0x00, b"anything"), None, None),
    (v2(1, 0x21, bytes(15) + b"\1" + bytes(15) + b"\2" + b"\0\1\0\2"), ("::1", 1), ("::2", 2)),
    (v2(1, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")), "/run/a", "/run/b"),
    (v2(extra=tlv(AUTHORITY, b"shop.example") + tlv(4, b"")), ("192.0.2.1", 4660), ("192.0.2.2", 80)),
]


@pytest.mark.parametrize("header, source, target", GOOD)
def test_a_header_is_read_whole_and_nothing_behind_it(header, source, target):
    for at in range(len(header)):
        assert peek(header[:at]) is None, at
    found = peek(header + b"GET / HTTP/1.1\r\n\r\n")
    assert (found.size, found.source, found.target) == (len(header), source, target)


def test_fields_are_kept_and_a_checksum_must_be_right():
    found = peek(v2(extra=tlv(AUTHORITY, b"shop.example")))
    assert found.tlv(AUTHORITY) == b"shop.example" and found.tlv(CRC) is None
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    blank = v2(extra=tlv(CRC, bytes(4)) + tlv(AUTHORITY, b"a"))
    right = v2(extra=tlv(CRC, crc32c(blank).to_bytes(4, "big")) + tlv(AUTHORITY, b"a"))
    assert peek(right).tlv(AUTHORITY) == b"a"
    with pytest.raises(WireError, match="checksum"):
        peek(blank)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 04660 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.2 1 80\r\n",
        b"PROXY TCP4 ::1 ::1 1 80\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 80\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 80\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80 x\r\n",
        b"PROXY " + b"x" * LINE,
        SIGNATURE + b"\x11\x11\0\0",
        v2(2),
        v2(1, 0x41),
        v2(1, 0x13),
        v2(length=LARGEST) + bytes(LARGEST),
        v2(body=b"\x7f\0\0\1"),
        v2(extra=b"\1\0"),
        v2(extra=b"\1\0\5ab"),
        v2(extra=tlv(CRC, b"ab")),
        v2(extra=tlv(1, b"") * 65),
    ],
)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(WireError):
        peek(data)


@given(st.binary(max_size=80), st.sampled_from([b"", SIGNATURE, b"PROXY ", SIGNATURE + b"\x21\x11\x00\x20"]))
def test_no_bytes_do_anything_else(data, start):
    try:
        found = peek(start + data)
    except WireError:
        return
    assert found is None or 0 < found.size <= len(start + data)


@pytest.mark.parametrize(
    "source, target",
    [(("192.0.2.1", 1), ("192.0.2.2", 2)), (("2001:db8::1", 1), ("192.0.2.2", 2)), (("::1", 1), ("::2", 2))],
)
def test_what_we_say_is_what_we_read(source, target):
    found = peek(told(source, target))
    assert found.source == source and found.target[1] == target[1]
