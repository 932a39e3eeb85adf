"""The messages of test_h1_conformance, raw: what must be refused, what must be answered, what origins get wrong.

In requests ``@`` stands for the path that is asked for (``(AT)`` for a real one). Written from RFC 9110 and 9112.
"""
# ruff: noqa: E501

from prober import CLOSE, OK

H = b"Host: x.example\r\n"


def field(line: bytes) -> bytes:
    """A GET with one more field line."""
    return b"GET @ HTTP/1.1\r\n" + H + line + b"\r\n\r\n"


def post(fields: bytes, body: bytes) -> bytes:
    """A POST."""
    return b"POST @ HTTP/1.1\r\n" + H + fields + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
REFUSED_HEADS: dict[str, tuple[bytes, int]] = {
    "no host": (b"GET @ HTTP/1.1\r\n\r\n", 400),
    "no host but fields": (b"GET @ HTTP/1.1\r\nAccept: */*\r\n\r\n", 400),
    "two hosts": (b"GET @ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two equal hosts": (b"GET @ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two hosts in 1.0": (b"GET @ HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "empty host": (b"GET @ HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "host of white space": (b"GET @ HTTP/1.1\r\nHost:  \t\r\n\r\n", 400),
    "host with user": (b"GET @ HTTP/1.1\r\nHost: user(AT)a\r\n\r\n", 400),
    "host with user and password": (b"GET @ HTTP/1.1\r\nHost: u:p(AT)a:80\r\n\r\n", 400),
    "host with comma": (b"GET @ HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "host with space": (b"GET @ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with path": (b"GET @ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with scheme": (b"GET @ HTTP/1.1\r\nHost: http://a\r\n\r\n", 400),
    "host with query": (b"GET @ HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
    "host with fragment": (b"GET @ HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
    "host with backslash": (b"GET @ HTTP/1.1\r\nHost: a\\b\r\n\r\n", 400),
    "host with quote": (b'GET @ HTTP/1.1\r\nHost: a"b\r\n\r\n', 400),
    "host with angle": (b"GET @ HTTP/1.1\r\nHost: <a>\r\n\r\n", 400),
    "host with NUL": (b"GET @ HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
    "host with high byte": (b"GET @ HTTP/1.1\r\nHost: a\xffb\r\n\r\n", 400),
    "host with bad port": (b"GET @ HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    "host with big port": (b"GET @ HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    "host with negative port": (b"GET @ HTTP/1.1\r\nHost: a:-1\r\n\r\n", 400),
    "host with two ports": (b"GET @ HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400),
    "host of a port": (b"GET @ HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
    "host with open bracket": (b"GET @ HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    "host with text behind bracket": (b"GET @ HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400),
    "host with name in brackets": (b"GET @ HTTP/1.1\r\nHost: [name]\r\n\r\n", 400),
    "host with space before colon": (b"GET @ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "space before colon": (field(b"X-A : b"), 400),
    "tab before colon": (field(b"X-A\t: b"), 400),
    "space before the first name": (b"GET @ HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "folded value": (field(b"X-A: b\r\n c"), 400),
    "folded with tab": (field(b"X-A: b\r\n\tc"), 400),
    "folded content-length": (post(b"Content-Length: 1\r\n 0", b""), 400),
    "folded transfer-encoding": (post(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n"), 400),
    "no colon": (field(b"X-A"), 400),
    "empty name": (field(b": b"), 400),
    "NUL in name": (field(b"X\0A: b"), 400),
    "NUL in value": (field(b"X-A: b\0c"), 400),
    "high byte in name": (field(b"X\xe4: b"), 400),
    "parenthesis in name": (field(b"X(A): b"), 400),
    "quote in name": (field(b'"X-A": b'), 400),
    "slash in name": (field(b"X/A: b"), 400),
    "bracket in name": (field(b"[X]: b"), 400),
    "control byte in value": (field(b"X-A: b\x01c"), 400),
    "DEL in value": (field(b"X-A: b\x7fc"), 400),
    "vertical tab in value": (field(b"X-A: b\x0bc"), 400),
    "CR in value": (field(b"X-A: b\rc"), 400),
    "CR in name": (field(b"X\r-A: c"), 400),
    "LF ends a field": (b"GET @ HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400),
    "LF ends the request line": (b"GET @ HTTP/1.1\nHost: a\r\n\r\n", 400),
    "LF ends the head": (b"GET @ HTTP/1.1\r\nHost: a\r\n\n", 400),
    "LFs only": (b"GET @ HTTP/1.1\nHost: a\n\n", 400),
    "CRs only": (b"GET @ HTTP/1.1\rHost: a\r\r", 400),
    "CR CR LF": (b"GET @ HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    "three empty lines first": (b"\r\n\r\n\r\nGET @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space first": (b" GET @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces after the method": (b"GET  @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces before the version": (b"GET @  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab after the method": (b"GET\t@ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab before the version": (b"GET @\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space after the version": (b"GET @ HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "words after the version": (b"GET @ HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET @ b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET @\r\nHost: a\r\n\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "only a method": (b"GET\r\nHost: a\r\n\r\n", 400),
    "lower-case version": (b"GET @ http/1.1\r\nHost: a\r\n\r\n", 400),
    "mixed-case version": (b"GET @ Http/1.1\r\nHost: a\r\n\r\n", 400),
    "version without digits": (b"GET @ HTTP/x.y\r\nHost: a\r\n\r\n", 400),
    "version of one digit": (b"GET @ HTTP/1\r\nHost: a\r\n\r\n", 400),
    "version of three digits": (b"GET @ HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    "version with leading zero": (b"GET @ HTTP/01.1\r\nHost: a\r\n\r\n", 400),
    "version with comma": (b"GET @ HTTP/1,1\r\nHost: a\r\n\r\n", 400),
    "version 1.2": (b"GET @ HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "version 2.0": (b"GET @ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version 0.9": (b"GET @ HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "version 3.0": (b"GET @ HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    "another protocol": (b"GET @ RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "control byte in the method": (b"G\x01ET @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "colon in the method": (b"GE:T @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "NUL in the target": (b"GET @\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "high byte in the target": (b"GET @\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment in the target": (b"GET @#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "DEL in the target": (b"GET @\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target without slash": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "GET *": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute target with user": (b"GET http://u(AT)a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute target without host": (b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute target of another scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute target without Host": (b"GET http://a@ HTTP/1.1\r\n\r\n".replace(b"a@", b"a/x"), 400),
    "CONNECT to a path": (b"CONNECT @ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT without port": (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "GET with an authority": (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "length and coding": (post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"), 400),
    "coding and length": (post(CHUNKED + b"\r\nContent-Length: 5", b"0\r\n\r\n"), 400),
    "length 0 and coding": (post(b"Content-Length: 0\r\n" + CHUNKED, b"0\r\n\r\n"), 400),
    "coding in 1.0": (b"POST @ HTTP/1.0\r\nHost: a\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (post(b"Content-Length: 0\r\nContent-Length: 5", b""), 400),
    "two equal lengths": (post(b"Content-Length: 2\r\nContent-Length: 2", b"ab"), 400),
    "a list of lengths": (post(b"Content-Length: 2, 2", b"ab"), 400),
    "an empty length": (post(b"Content-Length:", b""), 400),
    "a negative length": (post(b"Content-Length: -1", b""), 400),
    "a signed length": (post(b"Content-Length: +2", b"ab"), 400),
    "a hexadecimal length": (post(b"Content-Length: 0x2", b"ab"), 400),
    "a fractional length": (post(b"Content-Length: 2.0", b"ab"), 400),
    "an exponent length": (post(b"Content-Length: 2e0", b"ab"), 400),
    "a length with underscore": (post(b"Content-Length: 1_0", b""), 400),
    "a length with space inside": (post(b"Content-Length: 1 0", b""), 400),
    "a length that overflows": (post(b"Content-Length: 18446744073709551616", b""), 400),
    "a length of many digits": (post(b"Content-Length: " + b"9" * 400, b""), 400),
    "a length in other digits": (post(b"Content-Length: \xd9\xa2", b"ab"), 400),
    "a quoted length": (post(b'Content-Length: "2"', b"ab"), 400),
    "a length with NUL": (post(b"Content-Length: 2\0", b"ab"), 400),
    "a length on GET that is wrong": (field(b"Content-Length: x"), 400),
    "an unknown expectation": (post(b"Content-Length: 2\r\nExpect: more", b"ab"), 417),
    "a long request line": (b"GET @?" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a long field": (field(b"X-A: " + b"a" * 20000), 431),
    "a long head": (field(b"\r\n".join(b"X-%d: %b" % (n, b"a" * 1000) for n in range(80))), 431),
    "many fields": (field(b"\r\n".join(b"X-%d: a" % n for n in range(200))), 431),
    "a long name": (field(b"X" * 300 + b": a"), 431),
}


REFUSED_BODIES: dict[str, bytes] = {
    "a size that is no number": b"x\r\nab\r\n0\r\n\r\n",
    "an empty size": b"\r\nab\r\n0\r\n\r\n",
    "a size with 0x": b"0x2\r\nab\r\n0\r\n\r\n",
    "a signed size": b"+2\r\nab\r\n0\r\n\r\n",
    "a negative size": b"-2\r\nab\r\n0\r\n\r\n",
    "a size with underscore": b"0_2\r\nab\r\n0\r\n\r\n",
    "a space before the size": b" 2\r\nab\r\n0\r\n\r\n",
    "a space behind the size": b"2 \r\nab\r\n0\r\n\r\n",
    "a tab behind the size": b"2\t\r\nab\r\n0\r\n\r\n",
    "a size of 17 digits": b"00000000000000002\r\nab\r\n0\r\n\r\n",
    "a size that overflows": b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "a size of 2^64-1": b"ffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "a size that ends in LF": b"2\nab\r\n0\r\n\r\n",
    "a size that ends in CR": b"2\rab\r\n0\r\n\r\n",
    "an extension that ends in LF": b"2;a\nab\r\n0\r\n\r\n",
    "an extension with CR": b"2;a\rb\r\nab\r\n0\r\n\r\n",
    "an extension with NUL": b"2;a\0b\r\nab\r\n0\r\n\r\n",
    "an extension with a control byte": b"2;a\x01\r\nab\r\n0\r\n\r\n",
    "a long extension": b"2;" + b"a" * 5000 + b"\r\nab\r\n0\r\n\r\n",
    "many long extensions": b"".join(b"1;" + b"a" * 4000 + b"\r\na\r\n" for _ in range(6)) + b"0\r\n\r\n",
    "data longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "data shorter than its size": b"3\r\nab\r\n0\r\n\r\n",
    "data that ends in LF": b"2\r\nab\n0\r\n\r\n",
    "data that ends in CR": b"2\r\nab\r0\r\n\r\n",
    "data without an end": b"2\r\nab0\r\n\r\n",
    "a last chunk that ends in LF": b"2\r\nab\r\n0\n\r\n",
    "a trailer that frames": b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that codes": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a trailer that names a host": b"0\r\nHost: b\r\n\r\n",
    "a trailer without colon": b"0\r\nabc\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nX-A : b\r\n\r\n",
    "a folded trailer": b"0\r\nX-A: b\r\n c\r\n\r\n",
    "a trailer with NUL": b"0\r\nX-A: b\0\r\n\r\n",
    "a trailer that ends in LF": b"0\r\nX-A: b\n\r\n",
    "a long trailer section": b"0\r\n" + b"X-A: %b\r\n" % (b"a" * 1000) * 20 + b"\r\n",
}


def mutations() -> list[tuple[bytes, bool]]:
    """(lines, whether it is just another field): ways to write Transfer-Encoding so that two readers may differ."""
    found: list[tuple[bytes, bool]] = []
    name, value = b"Transfer-Encoding", b"chunked"
    for byte in [*range(0, 33), 0x7F, 0x80, 0x85, 0xA0, 0xAD, 0xFF]:
        one = bytes([byte])
        if byte not in (9, 32, 10):
            found.append((name + b":" + one + value, False))
            found.append((name + b": " + value + one, False))
        if byte != 10:
            found.append((name + one + b": " + value, False))
        found.append((one + name + b": " + value, False))
    values = (
        b"xchunked|chunkedx|chunked,|,chunked|chunked, identity|identity, chunked|identity|gzip, chunked|chunked, gzip"
    )
    values += (
        b"|chunked, chunked|chunked;a=b|chunked ; a|\"chunked\"|'chunked'|chu nked|chunk|chunkedchunked|x|0|1|chunked/1"
    )
    values += b"|x-chunked|deflate|compress, chunked|trailers|(comment) chunked|<chunked>|[chunked]|=chunked|chunked=|chunked:"
    values += (
        b"|chunked\\|chun\\ked|%63hunked|chunKed, x||,|, ,|chunked,,|;chunked|*|chunked*|cow|chunked-|-chunked|chunked."
    )
    found += [(name + b": " + one, False) for one in values.split(b"|")]
    found += [
        (name + b": " + value + b"\r\n" + name + b": " + other, False) for other in (value, b"x", b"identity", b"gzip")
    ]
    found += [(name + b": x\r\n" + name + b": " + value, False), (name + b":\r\n" + name + b": " + value, False)]
    found += [(name + b":\r\n " + value, False), (name + b":\n " + value, False), (name + b": x\r\n " + value, False)]
    found += [(name + b":\n" + value, False), (name + b"\r\n: " + value, False), (name + b" " + value, False)]
    found += [(b"X: y\n" + name + b": " + value, False), (b"X: y\r" + name + b": " + value, False)]
    found += [
        (b"X: y\r\n\r" + name + b": " + value, False),
        (name + b" : " + value, False),
        (name + b"\t:" + value, False),
    ]
    found += [
        (name + b":: " + value, False),
        (b'"' + name + b'": ' + value, False),
        (b":" + name + b": " + value, False),
    ]
    found += [(b"Transfer Encoding: " + value, False), (b"Transfer\xadEncoding: chunked", False)]
    others = b"Transfer_Encoding TransferEncoding Transfer-Encodings X-Transfer-Encoding Transfer-Encoding- Transfer--Encoding"
    others += b" Transfer.Encoding ransfer-Encoding Content-Transfer-Encoding Http-Transfer-Encoding Transfer-Encodin TE-Encoding"
    found += [(one + b": " + value, True) for one in others.split()]
    exact = (b"Transfer-Encoding:chunked", b"transfer-encoding: CHUNKED", b"TRANSFER-ENCODING:\tChunked \t")
    return found + [(one, False) for one in exact]  # exact, but beside a length


MUTATIONS = mutations()

ACCEPTED: dict[str, bytes] = {
    "a plain request": b"GET @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "one empty line first": b"\r\nGET @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "two empty lines first": b"\r\n\r\nGET @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "no space after the colon": b"GET @ HTTP/1.1\r\nHost:a\r\nConnection:close\r\n\r\n",
    "white space around a value": b"GET @ HTTP/1.1\r\nHost: \t a \t\r\nConnection: close\r\n\r\n",
    "an empty value": b"GET @ HTTP/1.1\r\nHost: a\r\nX-A:\r\nConnection: close\r\n\r\n",
    "a high byte in a value": b"GET @ HTTP/1.1\r\nHost: a\r\nX-A: \xe4\r\nConnection: close\r\n\r\n",
    "names in capitals": b"GET @ HTTP/1.1\r\nHOST: a\r\nCONNECTION: CLOSE\r\n\r\n",
    "odd token bytes in a name": b"GET @ HTTP/1.1\r\nHost: a\r\n!#$%&'*+.^_`|~-: b\r\nConnection: close\r\n\r\n",
    "a host with port": b"GET @ HTTP/1.1\r\nHost: a:8080\r\nConnection: close\r\n\r\n",
    "a host with an empty port": b"GET @ HTTP/1.1\r\nHost: a:\r\nConnection: close\r\n\r\n",
    "an IPv6 host": b"GET @ HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
    "an IPv4 host": b"GET @ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "an absolute target": b"GET http://b.example@ HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
    "an absolute target beats Host": b"GET http://b.example@ HTTP/1.1\r\nHost: c.example\r\nConnection: close\r\n\r\n",
    "a scheme in capitals": b"GET HTTP://b.example@ HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
    "1.0 without Host": b"GET @ HTTP/1.0\r\n\r\n",
    "1.0 with Host": b"GET @ HTTP/1.0\r\nHost: a\r\n\r\n",
    "1.0 that wants to keep, then closes": b"GET @ HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    "close in a list": b"GET @ HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
    "close in a second field": b"GET @ HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
    "an unknown method": b"FROB @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a method in lower case": b"get @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "OPTIONS of a path": b"OPTIONS @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a query": b"GET @?a=b&c=%20d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "escapes": b"GET @%2Fy%20z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a body by length": b"POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    "an empty body by length": b"POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "a length with zeros": b"POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\nConnection: close\r\n\r\nhello",
    "POST without a body": b"POST @ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET with a body": b"GET @ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    "a body in chunks": b"POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    "CHUNKED": b"POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "an extension": b"POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n",
    "sizes with zeros and capitals": b"POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0005\r\nhello\r\n000\r\n\r\n",
    "a trailer": b"POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    "an upgrade nobody here knows": b"GET @ HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: h2c, foo/2\r\nHTTP2-Settings: AA\r\n\r\n",
    "Upgrade without Connection": b"GET @ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n",
    "TE": b"GET @ HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n",
}  # fmt: skip


HEAD = b"HTTP/1.1 200 OK\r\n"
LIES: dict[str, list[bytes]] = {
    "two lengths": [HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", CLOSE],
    "a list of lengths": [HEAD + b"Content-Length: 2, 2\r\n\r\nok", CLOSE],
    "a length and a coding": [HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "a negative length": [HEAD + b"Content-Length: -2\r\n\r\nok", CLOSE],
    "an unknown coding": [HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", CLOSE],
    "two codings": [HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CLOSE],
    "a coding in 1.0": [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CLOSE],
    "lines that end in LF": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", CLOSE],
    "a folded field": [HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "a space before a colon": [HEAD + b"Content-Length : 2\r\n\r\nok", CLOSE],
    "NUL in a value": [HEAD + b"X: \0\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "CR in a value": [HEAD + b"X: a\rb\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "no status": [b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "status 99": [b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "status 1000": [b"HTTP/1.1 1000 X\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "version 2.0": [b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "no HTTP at all": [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE],
    "only junk": [b"\0" * 100, CLOSE],
    "a body with 204": [b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", CLOSE],
    "a coding with 204": [b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CLOSE],
    "an upgrade nobody asked for": [b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", CLOSE],
    "endless 1xx": [b"HTTP/1.1 103 X\r\n\r\n" * 200, OK],
    "a huge head": [HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 1000) for n in range(200)) + b"\r\n", CLOSE],
    "nothing": [CLOSE],
    "half a status line": [b"HTTP/1.1 2", CLOSE],
    "half a head": [HEAD + b"Content-Le", CLOSE],
    "an interim answer, then nothing": [b"HTTP/1.1 103 Early Hints\r\n\r\n", CLOSE],
}


CUT: dict[str, list[bytes]] = {
    "less than its length": [HEAD + b"Content-Length: 10\r\n\r\nshort", CLOSE],
    "chunks without an end": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", CLOSE],
    "half a chunk": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nshort", CLOSE],
    "a wrong chunk size": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n", CLOSE],
    "a chunk that ends in LF": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\n0\r\n\r\n", CLOSE],
    "half a trailer": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\nX: y", CLOSE],
}
