"""What a server accepts and refuses: one table of requests, run whole, byte by byte and in uneven pieces."""

import pytest

import kit
from fairlead.core.limits import Limits
from fairlead.core.message import Response
from fairlead.wire.h1 import H1

H = b"Host: a\r\n"
TE = b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(line=2000, head=6000, headers=20, name=40, chunk_line=100, chunk_ext=150, trailer=200)


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + H + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def get(
    *fields: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"1.1", host: bytes = b"a"
) -> bytes:
    line = method + b" " + target + b" HTTP/" + version + b"\r\n"
    return line + b"Host: " + host + b"\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


REFUSED = {
    # Content-Length
    "the same length twice": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), "two-cl"),
    "two lengths": (post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), "two-cl"),
    "a list of lengths": (post(b"Content-Length: 3, 3", body=b"abc"), "bad-cl"),
    "a length with a plus": (post(b"Content-Length: +3", body=b"abc"), "bad-cl"),
    "a length with a minus": (post(b"Content-Length: -3", body=b"abc"), "bad-cl"),
    "a hexadecimal length": (post(b"Content-Length: 0x3", body=b"abc"), "bad-cl"),
    "an empty length": (post(b"Content-Length: "), "bad-cl"),
    "a length with an inner space": (post(b"Content-Length: 1 0", body=b"abc"), "bad-cl"),
    "a length with an underscore": (post(b"Content-Length: 1_0", body=b"abc"), "bad-cl"),
    "a quoted length": (post(b'Content-Length: "3"', body=b"abc"), "bad-cl"),
    "a fractional length": (post(b"Content-Length: 3.0", body=b"abc"), "bad-cl"),
    "a length in other digits": (post(b"Content-Length: \xd9\xa3", body=b"abc"), "bad-cl"),
    "a length of 19 digits": (post(b"Content-Length: 9999999999999999999", body=b"abc"), "bad-cl"),
    "a length of 2 to the 64 plus 3": (post(b"Content-Length: 18446744073709551619", body=b"abc"), "bad-cl"),
    "a length with a form feed": (post(b"Content-Length: \x0c3", body=b"abc"), "bad-field-value"),
    # Transfer-Encoding
    "length and chunked": (post(b"Content-Length: 3", b"Transfer-Encoding: chunked"), "te-and-cl"),
    "chunked and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 3"), "te-and-cl"),
    "length 0 and chunked": (post(b"Content-Length: 0", b"Transfer-Encoding: chunked"), "te-and-cl"),
    "xchunked": (post(b"Transfer-Encoding: xchunked"), "te-not-chunked"),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity"), "te-not-chunked"),
    "identity": (post(b"Transfer-Encoding: identity"), "te-not-chunked"),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked"), "te-not-chunked"),
    "chunked, chunked": (post(b"Transfer-Encoding: chunked, chunked"), "te-not-chunked"),
    "chunked with a comma": (post(b"Transfer-Encoding: chunked,"), "te-not-chunked"),
    "a comma before chunked": (post(b"Transfer-Encoding: ,chunked"), "te-not-chunked"),
    "quoted chunked": (post(b'Transfer-Encoding: "chunked"'), "te-not-chunked"),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1"), "te-not-chunked"),
    "empty transfer-encoding": (post(b"Transfer-Encoding:"), "te-not-chunked"),
    "chunked with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked"), "bad-field-value"),
    "chunked with a no-break space": (post(b"Transfer-Encoding: \xa0chunked"), "te-not-chunked"),
    "chunked with a NUL": (post(b"Transfer-Encoding: chunked\0"), "bad-field-value"),
    "chunked twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "two-te"),
    "chunked in 1.0": (post(b"Transfer-Encoding: chunked", version=b"1.0"), "te-in-1.0"),
    "a space in the name of transfer-encoding": (post(b"Transfer Encoding: chunked"), "space-before-colon"),
    "a space behind the name of transfer-encoding": (post(b"Transfer-Encoding : chunked"), "space-before-colon"),
    # field lines
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "space-before-colon"),
    "a tab before the colon": (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", "space-before-colon"),
    "obs-fold": (get(b"X: a\r\n b"), "obs-fold"),
    "obs-fold with a tab": (get(b"X: a\r\n\tb"), "obs-fold"),
    "a space before the first field": (b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", "obs-fold"),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", "bare-lf"),
    "bare LF after a field": (get(b"X: a\nY: b"), "bare-lf"),
    "bare LF as the empty line": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-lf"),
    "bare CR in a value": (get(b"X: a\rb"), "bare-cr"),
    "bare CR in a name": (get(b"X\ra: b"), "bad-field-name"),
    "CR CR LF": (get(b"X: a\r"), "bare-cr"),
    "a lone CR as the empty line": (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", "bare-cr"),
    "NUL in a value": (get(b"X: a\0b"), "bad-field-value"),
    "0x01 in a value": (get(b"X: a\x01b"), "bad-field-value"),
    "DEL in a value": (get(b"X: a\x7fb"), "bad-field-value"),
    "NUL in a name": (get(b"X\0: a"), "bad-field-name"),
    "non-ASCII in a name": (get(b"X\xc3\xa9: a"), "bad-field-name"),
    "an empty name": (get(b": a"), "bad-field-name"),
    "no colon": (get(b"Xfoo"), "bad-field-name"),
    "a bracket in a name": (get(b"[X]: a"), "bad-field-name"),
    # Host
    "no Host": (b"GET / HTTP/1.1\r\nX: a\r\n\r\n", "no-host"),
    "no fields at all": (b"GET / HTTP/1.1\r\n\r\n", "no-host"),
    "two Hosts": (get(b"Host: a"), "two-hosts"),
    "two Hosts in 1.0": (get(b"Host: a", version=b"1.0"), "two-hosts"),
    "an empty Host": (get(host=b""), "bad-host"),
    "a Host with user information": (get(host=b"u@a"), "bad-host"),
    "a Host with a comma": (get(host=b"a, b"), "bad-host"),
    "a Host with a comma and no space": (get(host=b"a,b"), "bad-host"),
    "a Host with a space": (get(host=b"a b"), "bad-host"),
    "a Host with a slash": (get(host=b"a/b"), "bad-host"),
    "a Host with a query": (get(host=b"a?b"), "bad-host"),
    "a Host with a hash": (get(host=b"a#b"), "bad-host"),
    "a Host with a scheme": (get(host=b"http://a"), "bad-host"),
    "a Host with a backslash": (get(host=b"a\\b"), "bad-host"),
    "a Host with a quote": (get(host=b'a"b'), "bad-host"),
    "a Host with angle brackets": (get(host=b"<a>"), "bad-host"),
    "a Host that is not ASCII": (get(host=b"\xc3\xa9"), "bad-host"),
    "a Host with a bad port": (get(host=b"a:b"), "bad-host"),
    "a Host with a signed port": (get(host=b"a:+1"), "bad-host"),
    "a Host with port 65536": (get(host=b"a:65536"), "bad-host"),
    "a Host with two ports": (get(host=b"a:1:2"), "bad-host"),
    "a Host that is only a port": (get(host=b":80"), "bad-host"),
    "a Host with an open bracket": (get(host=b"[::1"), "bad-host"),
    "a Host with letters in brackets": (get(host=b"[zz::1]"), "bad-host"),
    "a Host with junk behind brackets": (get(host=b"[::1]a"), "bad-host"),
    "a bare IPv6 address as Host": (get(host=b"::1"), "bad-host"),
    # request line
    "HTTP/1.2": (get(version=b"1.2"), "version"),
    "HTTP/2.0": (get(version=b"2.0"), "version"),
    "HTTP/9.9": (get(version=b"9.9"), "version"),
    "HTTP/0.9": (get(version=b"0.9"), "version"),
    "HTTP/1.10": (get(version=b"1.10"), "bad-request-line"),
    "HTTP/1": (get(version=b"1"), "bad-version"),
    "HTTP/01.1": (get(version=b"01.1"), "bad-version"),
    "http/1.1 in lower case": (b"GET / http/1.1\r\nHost: a\r\n\r\n", "bad-version"),
    "HTTP/1,1": (get(version=b"1,1"), "bad-version"),
    "a 0.9 line": (b"GET /\r\n\r\n", "bad-request-line"),
    "only a method": (b"GET\r\n\r\n", "bad-request-line"),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line"),
    "two spaces before the version": (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "bad-version"),
    "a space behind the version": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "bad-request-line"),
    "tabs": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line"),
    "a space first": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-method"),
    "a method that is no token": (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-method"),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad-method"),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "h2-preface"),
    "a target that is not ASCII": (get(target=b"/\xc3\xa9"), "bad-target"),
    "a target with a fragment": (get(target=b"/a#b"), "bad-target"),
    "a target with a NUL": (get(target=b"/\0"), "bad-target"),
    "a target with DEL": (get(target=b"/\x7f"), "bad-target"),
    "a target that is a name": (get(target=b"a"), "target-form"),
    "GET *": (get(target=b"*"), "target-form"),
    "OPTIONS **": (get(target=b"**", method=b"OPTIONS"), "target-form"),
    "CONNECT with a path": (get(target=b"/", method=b"CONNECT"), "target-form"),
    "CONNECT without a port": (get(target=b"a", method=b"CONNECT"), "target-form"),
    "CONNECT with an empty port": (get(target=b"a:", method=b"CONNECT"), "target-form"),
    "CONNECT with user information": (get(target=b"u@a:1", method=b"CONNECT"), "target-form"),
    "CONNECT with a scheme": (get(target=b"http://a:80", method=b"CONNECT"), "target-form"),
    "authority form for GET": (get(target=b"a:80"), "target-form"),
    "another scheme": (get(target=b"ftp://a/"), "target-form"),
    "an absolute target without a host": (get(target=b"http:///a"), "bad-host"),
    "an absolute target with user information": (get(target=b"http://u:p@a/"), "bad-host"),
    "an absolute target without Host": (b"GET http://a/ HTTP/1.1\r\n\r\n", "no-host"),
    "a bare LF before the request": (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare-lf"),
    "three empty lines before the request": (b"\r\n\r\n\r\n" + get(), "empty-lines"),
    "a bare CR before the request": (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare-cr"),
    # chunks
    "an extension ended by LF": (TE + b"3;a\nabc\r\n0\r\n\r\n", "bare-lf"),
    "an extension with a CR": (TE + b"3;a\rX\r\nabc\r\n0\r\n\r\n", "bare-cr"),
    "an extension with a control byte": (TE + b"3;a\x01\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension without a name": (TE + b"3;\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension that is white space": (TE + b"3; \r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension with a comma": (TE + b"3;a,=b\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension without a value": (TE + b"3;a=\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension with two values": (TE + b"3;a=b=c\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "an extension with an open string": (TE + b'3;a="b\r\nabc\r\n0\r\n\r\n', "bad-chunk-ext"),
    "an extension with bytes behind a string": (TE + b'3;a="b"c\r\nabc\r\n0\r\n\r\n', "bad-chunk-ext"),
    "an extension with NUL": (TE + b"3;\0\r\nabc\r\n0\r\n\r\n", "bad-chunk-ext"),
    "a size ended by LF": (TE + b"3\nabc\r\n0\r\n\r\n", "bare-lf"),
    "the last size ended by LF": (TE + b"3\r\nabc\r\n0\n\r\n", "bare-lf"),
    "a size ended by CR": (TE + b"3\rXabc\r\n0\r\n\r\n", "bare-cr"),
    "no CRLF behind chunk data": (TE + b"3\r\nabcXX0\r\n\r\n", "chunk-end"),
    "LF behind chunk data": (TE + b"3\r\nabc\n0\r\n\r\n", "chunk-end"),
    "CR and a byte behind chunk data": (TE + b"3\r\nabc\rX0\r\n\r\n", "chunk-end"),
    "a 0x size": (TE + b"0x3\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size with a space behind": (TE + b"3 \r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size with a space before": (TE + b" 3\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size with a sign": (TE + b"+3\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a negative size": (TE + b"-1\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "an empty size": (TE + b"\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "an empty size with an extension": (TE + b";a=b\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size of 17 digits": (TE + b"10000000000000003\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size of 17 digits with zeros": (TE + b"00000000000000003\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size of 2 to the 63": (TE + b"8000000000000000\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a size of 2 to the 64 minus 1": (TE + b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "an underscore in a size": (TE + b"1_0\r\nabc\r\n0\r\n\r\n", "bad-chunk-size"),
    "a chunk line that is too long": (TE + b"3;" + b"a" * 101, "chunk-line-too-long"),
    "extensions that are too long together": (TE + (b"1;" + b"a" * 50 + b"\r\nx\r\n") * 4, "chunk-ext-too-long"),
    # trailers
    "a length in the trailer": (TE + b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", "bad-trailer"),
    "transfer-encoding in the trailer": (TE + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad-trailer"),
    "Host in the trailer": (TE + b"0\r\nHost: b\r\n\r\n", "bad-trailer"),
    "a cookie in the trailer": (TE + b"0\r\nCookie: b\r\n\r\n", "bad-trailer"),
    "authorization in the trailer": (TE + b"0\r\nAuthorization: b\r\n\r\n", "bad-trailer"),
    "content-type in the trailer": (TE + b"0\r\nContent-Type: b\r\n\r\n", "bad-trailer"),
    "a bare LF in the trailer": (TE + b"0\r\nX: b\n\r\n", "bare-lf"),
    "a trailer line without a colon": (TE + b"0\r\nX\r\n\r\n", "bad-field-name"),
    "a request where the trailer should be": (TE + b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "space-before-colon"),
    "a trailer that is too long": (TE + b"0\r\nX: " + b"a" * 250 + b"\r\n\r\n", "trailer-too-long"),
    # limits
    "a target that is too long": (get(target=b"/" + b"a" * 2001), "line-too-long"),
    "a target that never ends": (b"GET /" + b"a" * 5000, "line-too-long"),
    "a field that is too long": (get(b"X: " + b"a" * 2001), "field-too-long"),
    "a field that never ends": (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, "field-too-long"),
    "a name that is too long": (get(b"X" * 41 + b": a"), "name-too-long"),
    "too many fields": (get(*[b"X: a"] * 20), "too-many-fields"),
    "a head that is too long": (get(*[b"X: " + b"a" * 500] * 13), "head-too-long"),
    # the rest
    "an unknown expectation": (post(b"Expect: 200-ok", b"Content-Length: 3"), "expect"),
}  # fmt: skip

STATUS = {
    "line-too-long": 414,
    "field-too-long": 431,
    "name-too-long": 431,
    "too-many-fields": 431,
    "head-too-long": 431,
    "trailer-too-long": 431,
    "expect": 417,
    "version": 505,
}

ACCEPTED = {
    "one empty line first": (b"\r\n" + get(), "GET /", b"", None),
    "a method of our own": (get(method=b"FOO"), "FOO /", b"", None),
    "QUERY": (get(method=b"QUERY"), "QUERY /", b"", None),
    "a lower-case method": (get(method=b"get"), "get /", b"", None),
    "a method with odd token bytes": (get(method=b"M-SEARCH!#$%&'*+.^_`|~"), "M-SEARCH!#$%&'*+.^_`|~ /", b"", None),
    "1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", "GET /", b"", None),
    "length": (post(b"Content-Length: 3", body=b"abc"), "POST /", b"abc", None),
    "length with zeros": (post(b"Content-Length: 0003", body=b"abc"), "POST /", b"abc", None),
    "length with outer white space": (post(b"Content-Length: \t 3 \t", body=b"abc"), "POST /", b"abc", None),
    "length in other letters": (post(b"cONTENT-lENGTH:3", body=b"abc"), "POST /", b"abc", None),
    "length 0": (post(b"Content-Length: 0"), "POST /", b"", None),
    "chunked": (TE + b"3\r\nabc\r\n0\r\n\r\n", "POST /", b"abc", None),
    "chunked in other letters": (post(b"transfer-ENCODING:ChUnKeD", body=b"0\r\n\r\n"), "POST /", b"", None),
    "several chunks": (TE + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "POST /", b"abc0123456789", None),
    "a size with zeros": (TE + b"0000000000000003\r\nabc\r\n000\r\n\r\n", "POST /", b"abc", None),
    "a size in capitals": (TE + b"C\r\nabcdefghijkl\r\n0\r\n\r\n", "POST /", b"abcdefghijkl", None),
    "an extension": (TE + b"3;a=b\r\nabc\r\n0;c\r\n\r\n", "POST /", b"abc", None),
    "several extensions": (TE + b'3;a;b=c;d="\\";"\r\nabc\r\n0;e\r\n\r\n', "POST /", b"abc", None),
    "an extension with a string": (TE + b'3;a="b c;\t\xe9"\r\nabc\r\n0\r\n\r\n', "POST /", b"abc", None),
    "a trailer": (TE + b"3\r\nabc\r\n0\r\nX-T: 1\r\ny:2\r\n\r\n", "POST /", b"abc", [(b"x-t", b"1"), (b"y", b"2")]),
    "chunk data that looks like an end": (TE + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "POST /", b"\r\n0\r\n\r\n", None),
    "upgrade with a body": (
        post(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
        "POST /",
        b"abc",
        None,
    ),
    "OPTIONS *": (get(method=b"OPTIONS", target=b"*"), "OPTIONS *", b"", None),
    "an absolute target": (get(target=b"http://b:81/c?d"), "GET /c?d", b"", None),
    "an absolute target without a path": (get(target=b"http://b"), "GET /", b"", None),
    "an absolute target with only a query": (get(target=b"http://b?c"), "GET /?c", b"", None),
    "OPTIONS with an absolute target": (get(method=b"OPTIONS", target=b"http://b"), "OPTIONS *", b"", None),
    "an absolute target in capitals": (get(target=b"HTTPS://b/"), "GET /", b"", None),
    "CONNECT": (get(method=b"CONNECT", target=b"b:443", host=b"b:443"), "CONNECT b:443", b"", None),
    "an empty value": (get(b"X:"), "GET /", b"", None),
    "obs-text in a value": (get(b"X: \xff\xe9"), "GET /", b"", None),
    "a Host with a port": (get(host=b"a-b.c_d:8080"), "GET /", b"", None),
    "a Host with an empty port": (get(host=b"a:"), "GET /", b"", None),
    "an IPv6 Host": (get(host=b"[::1]:80"), "GET /", b"", None),
    "an IPv4 Host": (get(host=b"127.0.0.1"), "GET /", b"", None),
    "odd but legal target bytes": (get(target=b"/a|b^c\"<>\\{}`"), 'GET /a|b^c"<>\\{}`', b"", None),
    "the longest line": (get(target=b"/" + b"a" * (2000 - 16)), "GET /" + "a" * 1984, b"", None),
}  # fmt: skip


def server(sink):
    return H1(sink, LIMITS)


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_is_refused_by_the_name_of_its_rule(name, split):
    data, rule = REFUSED[name]
    t = kit.Transcript(server, split).peer(data)
    assert t.rule == rule
    assert t.error.status == STATUS.get(rule, 400)
    assert t.error.side == "peer"
    assert rule in str(t.error)


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_request_is_heard_as_it_is(name, split):
    data, head, body, trailers = ACCEPTED[name]
    t = kit.Transcript(server, split).peer(data)
    assert t.error is None
    middle = [("body", 1, body)] if body else []
    assert t.heard() == [("head", 1, head), *middle, ("end", 1, trailers)]
    assert t.codec.detach() == b""


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_bytes_behind_a_request_are_not_touched_before_its_answer(name, split):
    data, _head, _body, trailers = ACCEPTED[name]
    t = kit.Transcript(server, split).peer(data + b"\0junk")
    assert t.error is None
    assert t.heard()[-1] == ("end", 1, trailers)
    if t.sink.messages[0].version == "1.1":
        assert t.codec.detach() == b"\0junk"


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_request_is_followed_by_the_next_one(name, split):
    data, _head, _body, _trailers = ACCEPTED[name]
    t = kit.Transcript(server, split)
    t.peer(data)
    t.codec.head(1, Response(404, []), True)
    if t.sink.messages[0].version == "1.0" or name == "CONNECT":
        assert t.codec.finished
        return
    t.heard()
    t.peer(get(target=b"/next"))
    assert t.heard() == [("head", 2, "GET /next"), ("end", 2, None)]


@pytest.mark.parametrize("split", kit.SPLITS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_request_that_is_cut_anywhere_is_an_error(name, split):
    data = ACCEPTED[name][0]
    for size in range(3, len(data), max(7, len(data) // 50)):  # fifty places of the longest line, rather than thousands
        t = kit.Transcript(server, split).peer(data[:size])
        t.eof()
        assert t.rule in ("eof-in-head", "eof-in-body")


def heard_request(data):
    t = kit.Transcript(server).peer(data)
    assert t.error is None
    return t.sink.messages[0]


def test_names_are_lower_case_and_values_bare():
    request = heard_request(get(b"X-Some: \t a b \t", b"ACCEPT:*/*"))
    assert request.headers == [(b"host", b"a"), (b"x-some", b"a b"), (b"accept", b"*/*")]


def test_the_absolute_target_overrides_host():
    request = heard_request(get(target=b"https://b:81/c", host=b"a"))
    assert request.authority == b"b:81"
    assert request.get(b"host") == b"b:81"
    assert request.scheme == "https"


def test_the_head_says_what_a_handler_needs():
    request = heard_request(post(b"Content-Length: 5", b"Expect: 100-Continue"))
    assert (request.method, request.scheme, request.authority, request.target) == ("POST", "http", b"a", b"/")
    assert (request.version, request.length, request.expect, request.trailers) == ("1.1", 5, True, None)
    assert heard_request(TE).length == -1
    assert heard_request(get()).length == 0


def test_upgrade_counts_only_when_connection_names_it_and_not_in_1_0():
    assert heard_request(get(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade")).upgrade == b"websocket"
    assert heard_request(get(b"Upgrade: websocket")).upgrade == b""
    assert heard_request(get(b"Upgrade: websocket", b"Connection: upgrade", version=b"1.0")).upgrade == b""


def test_a_declared_body_over_the_limit_is_413_before_anybody_hears_of_it():
    t = kit.Transcript(lambda sink: H1(sink, Limits(body=10))).peer(post(b"Content-Length: 11"))
    assert (t.rule, t.error.status, t.heard()) == ("body-too-long", 413, [])


@pytest.mark.parametrize("split", kit.SPLITS)
def test_a_chunked_body_over_the_limit_is_413(split):
    t = kit.Transcript(lambda sink: H1(sink, Limits(body=10)), split).peer(TE + b"6\r\nabcdef\r\n5\r\nabcde\r\n")
    assert (t.rule, t.error.status) == ("body-too-long", 413)


class TestTheEscapeHatch:
    """`lenient` names the rules one may bend."""

    def lenient(self, data, *rules, split="whole"):
        def make(sink):
            codec = H1(sink, LIMITS)
            codec.lenient = frozenset(rules)
            return codec

        return kit.Transcript(make, split).peer(data)

    @pytest.mark.parametrize("split", kit.SPLITS)
    def test_bare_lf(self, split):
        t = self.lenient(b"GET / HTTP/1.1\nHost: a\nX: b\n\n", "bare-lf", split=split)
        assert t.heard() == [("head", 1, "GET /"), ("end", 1, None)]
        assert t.sink.messages[0].headers == [(b"host", b"a"), (b"x", b"b")]

    @pytest.mark.parametrize("split", kit.SPLITS)
    def test_bare_lf_is_still_refused_in_chunk_lines(self, split):
        assert self.lenient(TE + b"3\nabc\r\n", "bare-lf", split=split).rule == "bare-lf"

    @pytest.mark.parametrize("split", kit.SPLITS)
    def test_obs_fold(self, split):
        t = self.lenient(get(b"X: a\r\n  b\r\n\tc"), "obs-fold", split=split)
        assert t.sink.messages[0].headers == [(b"host", b"a"), (b"x", b"a b c")]

    @pytest.mark.parametrize("split", kit.SPLITS)
    def test_obs_fold_is_still_refused_for_fields_that_frame(self, split):
        assert self.lenient(post(b"Transfer-Encoding:\r\n chunked"), "obs-fold", split=split).rule == "te-not-chunked"
        assert self.lenient(post(b"Content-Length: 1\r\n 0"), "obs-fold", split=split).rule == "obs-fold"

    def test_nothing_else_may_be_bent(self):
        with pytest.raises(ValueError):
            self.lenient(get(), "te-and-cl")
