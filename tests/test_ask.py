"""The guard against our own network, and one request to somewhere else: answers, failures and their steps."""

import asyncio
import ipaddress
import ssl
from contextlib import asynccontextmanager

import pytest

from fairlead.core.errors import ConfigError, NetError, Refused
from fairlead.net.ask import ask, where
from fairlead.net.guard import Guard


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1",
        "fec0::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a01:203", "2002:7f00:1::", "::7f00:1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_of_our_own_network_do_not_pass(address):
    assert not Guard().passes(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_pass(address):
    assert Guard().passes(address)


def test_a_network_that_is_allowed_passes_and_nothing_beside_it():
    guard = Guard([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/16")])
    assert guard.passes("127.0.0.1") and guard.passes("::ffff:127.0.0.1") and guard.passes("fd00::5")
    assert not guard.passes("10.0.0.1") and not guard.passes("::1")


def test_forbidden_addresses_of_a_name_are_left_out_and_none_left_is_refused():
    assert Guard().pick("both.example", ["10.0.0.1", "1.1.1.1"]) == ["1.1.1.1"]
    with pytest.raises(Refused, match=r"evil\.example is 10\.0\.0\.1, which is not a public address"):
        Guard().pick("evil.example", ["10.0.0.1"])


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://h/", "http://", "https://u:p@h/", "http://h:99999/", "http://h/ x", "http://h/#f",
     "http://h/\r\nx", "http://[::1/"],
)  # fmt: skip
def test_what_is_no_url(url):
    with pytest.raises(ConfigError):
        where(url)


def test_the_parts_of_a_url():
    assert where("https://h.example") == ("https", "h.example", 443, b"h.example", b"/")
    assert where("http://[::1]:8080/a?b=c") == ("http", "::1", 8080, b"[::1]:8080", b"/a?b=c")


@asynccontextmanager
async def serving(answer, seen=None):
    async def talk(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0) if b"ontent-length" in head else 0
            if seen is not None:
                seen.append(head + await reader.readexactly(size))
            for piece in answer:
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def asked(answer, *more, seen=None, path="/x", **options):
    async def run():
        async with serving(answer, seen) as url:
            return await ask("POST", url + path, *more, **options)

    return asyncio.run(run())


def test_a_request_and_its_answer():
    seen = []
    answer = [b"HTTP/1.1 201 Made\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc", b"\r\n2\r\nde\r\n0\r\n\r\n"]
    got = asked(answer, [(b"x-b", b"2")], b"body", seen=seen)
    assert (got.status, got.headers["x-a"], got.body, got.peer) == (201, "1", b"abcde", "127.0.0.1")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n") and b"x-b: 2" in head and body == b"body"


def test_a_long_answer_is_read_no_further_than_asked_for():
    got = asked([b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 5000], most=1000)
    assert got.body == b"x" * 1000


def test_a_redirect_is_an_answer():
    got = asked([b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"])
    assert got.status == 302


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"])
def test_an_answer_that_is_none(answer):
    with pytest.raises(NetError) as error:
        asked([answer])
    assert error.value.step == "receive" and str(error.value)


def test_nobody_listens_and_nobody_answers():
    async def run():
        async with serving([]) as url:
            pass
        with pytest.raises(NetError) as refused:
            await ask("GET", url)
        assert refused.value.step == "dial"

        async def silent(reader, writer):
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            with pytest.raises(NetError, match="no answer within") as late:
                await ask("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout=0.5)
        assert late.value.step == "receive" and late.value.status == 504
        with pytest.raises(NetError) as unknown:
            await ask("GET", "http://name.invalid/")
        assert unknown.value.step == "resolve"

    asyncio.run(run())


def test_a_guarded_request_to_ourselves_is_not_made():
    seen = []
    with pytest.raises(Refused, match="not a public address"):
        asked([b"HTTP/1.1 200 OK\r\n\r\n"], seen=seen, guard=Guard())
    assert not seen


def test_a_certificate_that_nobody_vouches_for(tmp_path):
    from fairlead.net import certs

    async def run(context, trust):
        async def talk(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
        async with server:
            return await ask("GET", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", tls=trust)

    authority = certs.dev_ca(tmp_path)
    certificate, key = authority.leaf(["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with pytest.raises(NetError, match="not trusted") as error:
        asyncio.run(run(context, None))
    assert error.value.step == "tls"
    trust = ssl.create_default_context(cafile=authority.ca_path)
    assert asyncio.run(run(context, trust)).status == 204
