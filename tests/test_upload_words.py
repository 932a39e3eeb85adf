"""The words of uploads: structured fields, digests, tus metadata, names of files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.errors import WireError
from fairlead.wire import uploadwords as words


def test_structured_fields_that_are_wrong_are_ignored():
    assert [words.integer(value) for value in (b"0", b" 12 ", b"7;a=b", b"999999999999999")] == [0, 12, 7, 999999999999999]
    assert {words.integer(value) for value in (None, b"", b"-1", b"1.0", b"1e3", b"1000000000000000", b'"1"', b"1, 2")} == {None}
    assert [words.boolean(value) for value in (b"?1", b"?0", b" ?1;x")] == [True, False, True]
    assert {words.boolean(value) for value in (None, b"", b"1", b"true", b"?2", b"?1, ?0")} == {None}


@given(st.binary(max_size=200))
def test_no_bytes_of_a_client_break_a_reader(value):
    words.integer(value), words.boolean(value), words.wanted(value), words.disposition(value)
    readers = [words.metadata, words.checksum, lambda v: words.digests(v, "X"), lambda v: words.number(v, "X")]
    for reader in readers:
        try:
            reader(value)
        except WireError as error:
            assert error.status == 400


@given(st.text(max_size=400))
def test_no_name_is_a_path_or_too_long(text):
    name = words.safe_name(text)
    assert "/" not in name and "\\" not in name and "\0" not in name and name not in (".", "..")
    assert len(name.encode()) <= 255


def test_limits_are_written_without_what_is_none():
    assert words.dictionary([("max-size", 5), ("max-age", None)]) == b"max-size=5"
    assert words.dictionary([("max-size", None)]) == b""


def test_digest_fields():
    assert words.digests(b"sha-256=:YQ==:, md5=:Yg==:;x", "Repr-Digest") == {"sha-256": b"a"}
    for bad in (b"sha-256=YQ==", b"sha-256=:Y:", b"", b"sha-256=:YQ==: junk"):
        with pytest.raises(WireError, match="Repr-Digest"):
            words.digests(bad, "Repr-Digest")
    assert words.wanted(b"sha-512=3, sha-256=5, md5=9") == "sha-256"
    assert words.wanted(b"sha-512=0, x") == words.wanted(None) == ""
    assert words.digest("sha-256", b"a") == b"sha-256=:YQ==:"


def test_metadata_there_and_back():
    found = words.metadata(b"filename d29ybGQ=,empty, bytes /w==")
    assert found == {"filename": "world", "empty": "", "bytes": "\udcff"}
    assert words.metadata(words.metadata_field(found)) == found
    assert words.metadata(None) == words.metadata(b"") == {}


@pytest.mark.parametrize(
    "said, name",
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.txt", "y.txt"),
        ("a\r\nb\0c", "abc"),
        ("..", ""),
        (".hidden", "hidden"),
        ("\ud800x", "x"),
        ("é" * 300 + ".png", "é" * 125 + ".png"),
    ],
)
def test_a_name_is_never_a_path(said, name):
    assert words.safe_name(said) == name


def test_names_in_content_disposition():
    assert words.disposition(b'inline; filename="a \\"b\\".txt"') == 'a "b".txt'
    assert words.disposition(b"inline; filename=x.txt; filename*=UTF-8''%e2%82%ac.txt") == "\u20ac.txt"
    assert words.disposition(b"attachment") == words.disposition(None) == ""
