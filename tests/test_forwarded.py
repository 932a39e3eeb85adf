"""Who the client is behind trusted proxies, and what the next server is told."""
# ruff: noqa: E501

import pytest

from fairlead.serve.forwarded import NOBODY, Trusted, added, effective, parse_forwarded

NEAR = Trusted(["127.0.0.0/8", "10.0.0.0/8", "::1/128", "fd00::/8", "unix"])
FRONT = ("10.0.0.9", 40000)


def told(peer, *headers):
    return effective([(name.encode(), value.encode()) for name, value in headers], peer, NEAR)


def test_an_untrusted_peer_is_the_client_whatever_it_says():
    assert told(("203.0.113.5", 1), ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")) == ("203.0.113.5", None, None)
    assert effective([(b"x-forwarded-for", b"1.2.3.4")], ("127.0.0.1", 1), NOBODY) == ("127.0.0.1", None, None)


def test_without_fields_the_peer_is_the_client():
    assert told(FRONT) == ("10.0.0.9", None, None)


@pytest.mark.parametrize(
    ("listed", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7, 10.0.0.3", "198.51.100.7"),
        ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ("198.51.100.7:5151", "198.51.100.7"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("unknown", "unknown"),
        ("evil, 10.0.0.3", "10.0.0.3"),
        ("nonsense", "10.0.0.9"),
        ("1.2.3.4, ,10.0.0.3", "10.0.0.3"),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(listed, client):
    assert told(FRONT, ("x-forwarded-for", listed))[0] == client


def test_repeated_fields_are_one_list():
    assert told(FRONT, ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7"))[0] == "198.51.100.7"


def test_scheme_and_host_come_from_the_outermost_trusted_hop():
    assert told(FRONT, ("x-forwarded-for", "198.51.100.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example"))[1:] == ("https", b"shop.example")
    assert told(FRONT, ("x-forwarded-for", "198.51.100.7, 10.0.0.3"), ("x-forwarded-proto", "https, http"))[1] == "https"
    assert told(FRONT, ("x-forwarded-for", "198.51.100.7"), ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b"))[1:] == (None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.7;proto=https;host=shop.example", ("198.51.100.7", "https", b"shop.example")),
        ('For="[2001:db8::17]:4711"', ("2001:db8::17", None, None)),
        ("for=6.6.6.6, for=198.51.100.7, for=10.0.0.3;proto=http", ("198.51.100.7", "http", None)),
        ("for=_hidden", ("_hidden", None, None)),
        ('for="_gazonk"', ("_gazonk", None, None)),
        ("for=unknown;proto=https", ("unknown", "https", None)),
        ("for=1.2.3.4;for=5.6.7.8", ("10.0.0.9", None, None)),
        ("proto=https", ("10.0.0.9", None, None)),
        ("garbage", ("10.0.0.9", None, None)),
        ('for="198.51.100.7', ("10.0.0.9", None, None)),
        ("for=198.51.100.7, broken, for=10.0.0.3", ("10.0.0.3", None, None)),
    ],
)
def test_forwarded_is_read_from_the_right(value, expected):
    assert told(FRONT, ("forwarded", value)) == expected


def test_x_forwarded_wins_because_a_client_may_have_forged_the_other():
    assert told(FRONT, ("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.7"))[0] == "198.51.100.7"


def test_a_quoted_comma_does_not_split():
    assert parse_forwarded(b'for="a,b";host="x;y", for=c') == [{"for": "a,b", "host": "x;y"}, {"for": "c"}]


def test_a_unix_peer_is_trusted_by_name():
    assert told("", ("x-forwarded-for", "198.51.100.7"))[0] == "198.51.100.7"
    assert told("") == ("", None, None)
    assert effective([(b"x-forwarded-for", b"1.2.3.4")], "", Trusted(["127.0.0.1/32"])) == ("", None, None)


def test_a_mapped_address_is_the_ipv4_one():
    assert NEAR.hop(("::ffff:10.1.2.3", 5, 0, 0)).trusted
    assert NEAR.hop(("::ffff:10.1.2.3", 5, 0, 0)).address == b"10.1.2.3"


def test_a_fresh_chain_names_the_peer():
    hop = NEAR.hop(("203.0.113.5", 1))
    assert sorted(hop.fields("https", b"shop.example:8443")) == [
        (b"forwarded", b'for=203.0.113.5;host="shop.example:8443";proto=https'),
        (b"x-forwarded-for", b"203.0.113.5"),
        (b"x-forwarded-host", b"shop.example:8443"),
        (b"x-forwarded-proto", b"https"),
    ]
    assert hop.fields("https", b"shop.example:8443") is hop.fields("https", b"shop.example:8443")
    assert (b"forwarded", b'for="[2001:db8::5]";proto=http') in NEAR.hop(("2001:db8::5", 1, 0, 0)).fields("http", b"")
    assert (b"forwarded", b"for=unknown;host=a;proto=http") in NEAR.hop("").fields("http", b"a")


def test_a_trusted_chain_is_added_to():
    incoming = [(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"shop.example")]
    assert sorted(added(NEAR.hop(FRONT), "http", b"inner", incoming)) == [
        (b"forwarded", b"for=198.51.100.7, for=10.0.0.9;host=inner;proto=http"),
        (b"x-forwarded-for", b"198.51.100.7, 10.0.0.9"),
        (b"x-forwarded-host", b"shop.example"),
        (b"x-forwarded-proto", b"https"),
    ]
    fields = dict(added(NEAR.hop(FRONT), "http", b"inner", [(b"forwarded", b'for="_x"')]))
    assert fields[b"forwarded"] == b'for="_x", for=10.0.0.9;host=inner;proto=http'
    assert fields[b"x-forwarded-for"] == b"10.0.0.9"


def test_what_the_next_server_reads_is_what_we_read():
    """Through a second trusted proxy the client stays the same."""
    incoming = [(b"x-forwarded-for", b"2001:db8::7"), (b"x-forwarded-proto", b"https")]
    out = added(NEAR.hop(FRONT), "http", b"inner", incoming)
    assert effective(out, ("10.0.0.1", 2), NEAR)[:2] == ("2001:db8::7", "https")
    only = [field for field in out if field[0] == b"forwarded"]
    assert effective(only, ("10.0.0.1", 2), NEAR)[0] == "2001:db8::7"
