"""The clients of HTTP/3 that we are tried with, and what each of them can: the table in docs/components/quic.md is made from this.

A client is a class whose methods are the columns (`FEATURES`); one that it lacks is a `Cannot` that says why, or a `See` that says
which test does it. `python tests/real/h3matrix.py` prints the table. test_h3_matrix.py runs each cell over each of our engines.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEATURES = {
    "page": "a GET",
    "hints": "its `priority` field, and an early hint (103)",
    "download": "a file of 3 MB, whole",
    "upload": "1 MB, whole",
    "events": "an event stream, heard while it goes on",
    "trailers": "fields after the body",
    "websocket": "a WebSocket over HTTP/3 (RFC 9220)",
    "grpc": "a gRPC call",
    "retry": "Retry is followed",
    "early": "a request in 0-RTT",
    "migrate": "another address in the middle",
}
HEALTH = "/grpc.health.v1.Health/Check"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
ASKED = b"\0\0\0\0\6\n\4shop"  # is `shop` serving?
SERVING = b"\0\0\0\0\2\x08\1"
FILE = bytes(range(256)) * 12_000
UPLOAD = b"\3\2\1\0" * 250_000
EVENTS = b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


class Cannot(str):
    """Why there is nothing to test."""


class See(str):
    """The test that does it, elsewhere."""


class Site:
    """Where to ask: the ports of an engine's listener, and of one that sends a Retry; all of them, and their certificate's pin,
    for a browser; `go` releases the rest of /sse.
    """

    def __init__(self, real: Any, port: int, retry: int, all_: tuple[int, ...], pin: str, go: Callable[[], None]) -> None:
        self.real, self.port, self.retry, self.all, self.pin, self.go = real, port, retry, all_, pin, go
        self.url = f"https://localhost:{port}"


def whole(body: bytes) -> None:
    """It is the file."""
    assert hashlib.sha256(body).digest() == hashlib.sha256(FILE).digest(), len(body)


def digest() -> bytes:
    """What /digest answers to the upload."""
    return f"{len(UPLOAD)} {hashlib.sha256(UPLOAD).hexdigest()}".encode()


# ---- libraries whose QUIC and HTTP/3 a test drives itself


class Aioquic:
    """aioquic's QUIC and HTTP/3."""

    name = library = "aioquic"

    def run(self, site: Site, talk: Callable[[Any], Any], **given: Any) -> Any:
        from h3client import Client

        async def main() -> Any:
            async with Client(self.library, given.pop("port", site.port), **given) as client:
                return await talk(client)

        return asyncio.run(main())

    def page(self, site: Site) -> None:
        answer = self.run(site, lambda client: client.get("/who"))
        assert answer.status == 200 and answer.body.startswith(b"http/3 GET ")

    def hints(self, site: Site) -> None:
        answer = self.run(site, lambda client: client.get("/hints", fields=[(b"priority", b"u=1, i")]))
        assert answer.body == b"u=1, i" and answer.headers["link"] == "</style.css>; rel=preload"

    def download(self, site: Site) -> None:
        whole(self.run(site, lambda client: client.get("/files/large.bin")).body)

    def upload(self, site: Site) -> None:
        assert self.run(site, lambda client: client.post("/digest", UPLOAD)).body == digest()

    def events(self, site: Site) -> None:
        async def talk(client: Any) -> None:
            answer = client.ask("/sse")
            while b"data: 0" not in answer.body:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(site.go)
            await asyncio.wait_for(answer.done, 30)
            assert answer.body == EVENTS

        self.run(site, talk)

    def trailers(self, site: Site) -> None:
        answer = self.run(site, lambda client: client.get("/trailers"))
        assert (answer.body, answer.headers["x-sum"]) == (b"with trailers", "17")

    def websocket(self, site: Site) -> None:
        from test_h3_upstream import ask_connect

        from fairlead.wire import _plain

        async def talk(client: Any) -> None:
            answer = ask_connect(client, [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")])
            await asyncio.wait_for(answer.begun, 30)
            said = [(0x81, b"over http/3"), (0x82, b"x" * 70_000), (0x88, b"\x03\xe8")]
            client.http.send_data(answer.stream, b"".join(_plain.frame(*one, 0x01020304) for one in said), True)
            client.transmit()
            await asyncio.wait_for(answer.done, 30)
            assert bytes(answer.body) == b"".join(_plain.frame(*one, -1) for one in said)

        self.run(site, talk)

    def grpc(self, site: Site) -> None:
        fields = [(name.encode(), value.encode()) for name, value in GRPC]
        answer = self.run(site, lambda client: client.get(HEALTH, method="POST", body=ASKED, fields=fields))
        assert (bytes(answer.body), answer.headers["grpc-status"]) == (SERVING, "0")

    def retry(self, site: Site) -> None:
        async def talk(client: Any) -> None:
            assert (await client.get("/who")).status == 200 and client.quic._retry_count == 1

        self.run(site, talk, port=site.retry)

    def early(self, site: Site) -> None:
        async def first(client: Any) -> Any:
            await client.get("/who")
            return client.tickets[0]

        ticket = self.run(site, first)
        answer = self.run(site, lambda client: client.get("/who"), ticket=ticket, early=True)
        assert answer.body.endswith(b" early 1")

    def migrate(self, site: Site) -> None:
        async def talk(client: Any) -> None:
            await client.get("/who")
            answer = client.ask("/sse")
            while b"data: 0" not in answer.body:
                await asyncio.sleep(0.01)
            await client.move()
            assert (await client.get("/who")).status == 200
            await asyncio.to_thread(site.go)
            await asyncio.wait_for(answer.done, 30)
            assert answer.body == EVENTS

        self.run(site, talk)


class Qh3(Aioquic):
    """qh3's QUIC and HTTP/3."""

    name = library = "qh3"


# ---- libcurl: ngtcp2 and nghttp3, over OpenSSL and over BoringSSL


class Curl:
    """libcurl as pycurl's wheels bring it: ngtcp2 and nghttp3 over OpenSSL."""

    name = "pycurl (ngtcp2)"

    def ask(self, url: str, body: bytes | None = None, fields: Any = (), hear: Any = None, handle: Any = None) -> Any:
        """(all lines of all heads and trailers, the body), asked by HTTP/3 only."""
        import pycurl

        curl, lines, out = handle or pycurl.Curl(), [], io.BytesIO()
        for option, value in (
            (pycurl.URL, url), (pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0), (pycurl.TIMEOUT, 30), (pycurl.PROXY, ""),
            (pycurl.IPRESOLVE, pycurl.IPRESOLVE_V4),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY), (pycurl.HEADERFUNCTION, lines.append),
            (pycurl.WRITEFUNCTION, lambda data: (out.write(data), hear and hear(data), None)[2]),
            (pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in fields]),
        ):  # fmt: skip
            curl.setopt(option, value)
        if body is not None:
            curl.setopt(pycurl.POSTFIELDS, body)
        curl.perform()
        assert curl.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_3
        if handle is None:
            curl.close()
        return [line.decode().strip() for line in lines], out.getvalue()

    def page(self, site: Site) -> None:
        lines, body = self.ask(site.url + "/who")
        assert lines[0].split() == ["HTTP/3", "200"] and body.startswith(b"http/3 GET ")

    def hints(self, site: Site) -> None:
        lines, body = self.ask(site.url + "/hints", fields=[("priority", "u=1, i")])
        assert lines[0].split() == ["HTTP/3", "103"] and lines[1].startswith("link:") and body == b"u=1, i"

    def download(self, site: Site) -> None:
        whole(self.ask(site.url + "/files/large.bin")[1])

    def upload(self, site: Site) -> None:
        assert self.ask(site.url + "/digest", UPLOAD)[1] == digest()

    def events(self, site: Site) -> None:
        assert self.ask(site.url + "/sse", hear=lambda data: b"data: 0" in data and site.go())[1] == EVENTS

    def trailers(self, site: Site) -> None:
        lines, body = self.ask(site.url + "/trailers")
        assert body == b"with trailers" and "x-sum: 17" in lines

    websocket = Cannot("libcurl opens WebSockets over HTTP/1.1 only")

    def grpc(self, site: Site) -> None:
        lines, body = self.ask(site.url + HEALTH, ASKED, GRPC)
        assert body == SERVING and "grpc-status: 0" in lines

    def retry(self, site: Site) -> None:
        assert self.ask(f"https://localhost:{site.retry}/who")[1].startswith(b"http/3 GET ")

    def early(self, site: Site) -> None:
        import pycurl

        curl = pycurl.Curl()
        curl.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_EARLYDATA)
        curl.setopt(pycurl.FORBID_REUSE, 1)
        assert self.ask(site.url + "/who", handle=curl)[1].endswith(b" early -")
        assert self.ask(site.url + "/who", handle=curl)[1].endswith(b" early 1")
        curl.close()

    migrate = Cannot("libcurl stays with its socket")


class CurlCffi:
    """curl_cffi: libcurl that looks like a browser, over BoringSSL."""

    name = "curl_cffi (ngtcp2, BoringSSL)"

    def ask(self, url: str, body: bytes | None = None, fields: Any = (), **more: Any) -> Any:
        from curl_cffi import requests

        given = {"http_version": "v3only", "verify": False, "timeout": 30, "proxies": {}, "headers": dict(fields), **more}
        answer = requests.request("GET" if body is None else "POST", url, data=body, **given)
        assert answer.http_version == 30, answer.http_version
        return answer

    def page(self, site: Site) -> None:
        answer = self.ask(site.url + "/who")
        assert answer.status_code == 200 and answer.content.startswith(b"http/3 GET ")

    def hints(self, site: Site) -> None:
        assert self.ask(site.url + "/hints", fields=[("priority", "u=1, i")]).content == b"u=1, i"

    def download(self, site: Site) -> None:
        whole(self.ask(site.url + "/files/large.bin").content)

    def upload(self, site: Site) -> None:
        assert self.ask(site.url + "/digest", UPLOAD).content == digest()

    def events(self, site: Site) -> None:
        found = b""
        answer = self.ask(site.url + "/sse", stream=True)
        for part in answer.iter_content():
            if not found:
                site.go()
            found += part
        answer.close()
        assert found == EVENTS

    def trailers(self, site: Site) -> None:
        answer = self.ask(site.url + "/trailers")
        assert (answer.content, answer.status_code) == (b"with trailers", 200)

    websocket = Cannot("libcurl opens WebSockets over HTTP/1.1 only")
    grpc = Cannot("it shows no trailers, which is where gRPC's status is")

    def retry(self, site: Site) -> None:
        assert self.ask(f"https://localhost:{site.retry}/who").content.startswith(b"http/3 GET ")

    early = Cannot("libcurl has no early data over BoringSSL")
    migrate = Cannot("libcurl stays with its socket")


class Niquests:
    """niquests: Requests' API over urllib3.future and qh3."""

    name = "niquests (qh3)"

    def ask(self, url: str, body: bytes | None = None, fields: Any = (), hear: Any = None, **more: Any) -> Any:
        import niquests

        with niquests.Session(disable_http1=True, disable_http2=True) as session:
            session.trust_env = False
            session.quic_cache_layer.add_domain("localhost", int(url.split(":")[2].split("/")[0]))
            given = {"verify": False, "timeout": 30, "headers": dict(fields), **more}
            answer = session.request("GET" if body is None else "POST", url, data=body, **given)
            if hear is not None:
                hear(answer)
            assert "wss" in url or answer.http_version == 30, answer.http_version
            return answer

    def page(self, site: Site) -> None:
        answer = self.ask(site.url + "/who")
        assert answer.status_code == 200 and answer.content.startswith(b"http/3 GET ")

    def hints(self, site: Site) -> None:
        early: list = []
        answer = self.ask(site.url + "/hints", fields=[("priority", "u=1, i")], hooks={"early_response": [early.append]})
        assert answer.content == b"u=1, i" and [(one.status_code, one.headers["link"]) for one in early] == [
            (103, "</style.css>; rel=preload")
        ]

    def download(self, site: Site) -> None:
        whole(self.ask(site.url + "/files/large.bin").content)

    def upload(self, site: Site) -> None:
        assert self.ask(site.url + "/digest", UPLOAD).content == digest()

    def events(self, site: Site) -> None:
        found: list = []

        def hear(answer: Any) -> None:
            for part in answer.iter_raw():
                if not found:
                    site.go()
                found.append(part)

        self.ask(site.url + "/sse", hear=hear, stream=True)
        assert b"".join(found) == EVENTS

    def trailers(self, site: Site) -> None:
        answer = self.ask(site.url + "/trailers")
        assert (answer.content, answer.trailers["x-sum"]) == (b"with trailers", "17")

    def websocket(self, site: Site) -> None:
        def hear(answer: Any) -> None:
            assert (answer.status_code, answer.headers["x-version"]) == (200, "3")
            answer.extension.send_payload("over http/3")
            assert answer.extension.next_payload() == "over http/3"
            answer.extension.close()

        self.ask(site.url.replace("https", "wss+rfc8441") + "/ws", hear=hear)

    def grpc(self, site: Site) -> None:
        answer = self.ask(site.url + HEALTH, ASKED, GRPC)
        assert (answer.content, answer.trailers["grpc-status"]) == (SERVING, "0")

    def retry(self, site: Site) -> None:
        assert self.ask(f"https://localhost:{site.retry}/who").content.startswith(b"http/3 GET ")

    early = Cannot("it keeps no tickets for early data")
    migrate = Cannot("it stays with its socket")


# ---- programs


class Gtlsclient:
    """ngtcp2's example client, over GnuTLS."""

    name = "gtlsclient (ngtcp2, GnuTLS)"

    def argv(self, site: Site, path: str, *more: str, port: int = 0) -> list[str]:
        from processes import program

        port = port or site.port
        given = ["--exit-on-all-streams-close", "--timeout=20s", "--no-quic-dump", *more, "127.0.0.1", str(port)]
        return [program("gtlsclient"), *given, f"https://localhost:{port}{path}"]

    def ask(self, site: Site, path: str, *more: str, **given: Any) -> str:
        done = site.real.finish(self.argv(site, path, *more, **given), 40)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "closed with error code 256" in said, said[-2000:]
        return said

    def page(self, site: Site) -> None:
        said = self.ask(site, "/who")
        assert "[:status: 200]" in said and "http/3 GET " in text_of(said)

    def hints(self, site: Site) -> None:
        said = self.ask(site, "/hints")
        assert "[:status: 103]" in said and "[link: </style.css>; rel=preload]" in said and "[:status: 200]" in said

    def download(self, site: Site) -> None:
        home = site.real.home()
        done = site.real.finish(self.argv(site, "/files/large.bin", "-q", f"--download={home}"), 40)
        assert done.returncode == 0, done.stderr[-1000:]
        whole((home / "large.bin").read_bytes())

    def upload(self, site: Site) -> None:
        file = Path(site.real.home()) / "body"
        file.write_bytes(UPLOAD)
        assert digest().decode() in text_of(self.ask(site, "/digest", "-m", "POST", "-d", str(file)))

    def events(self, site: Site) -> None:
        running = site.real.run(*self.argv(site, "/sse"))
        running.says("data: 0")
        site.go()
        assert running.wait(30) == 0 and EVENTS.decode().replace("\n", ".") in text_of(running.text())

    def trailers(self, site: Site) -> None:
        said = self.ask(site, "/trailers")
        assert "[x-sum: 17]" in said and "with trailers" in text_of(said)

    websocket = Cannot("knows no extended CONNECT")
    grpc = Cannot("sends no header fields of its user's")

    def retry(self, site: Site) -> None:
        said = self.ask(site, "/who", port=site.retry)
        assert "Retry" in said and "http/3 GET " in text_of(said)

    def early(self, site: Site) -> None:
        home = site.real.home()
        kept = f"--session-file={home / 'session'}", f"--tp-file={home / 'parameters'}"
        assert "early -" in text_of(self.ask(site, "/who", *kept))
        said = self.ask(site, "/who", *kept)
        assert "type=0RTT" in said and "early 1" in text_of(said)

    def migrate(self, site: Site) -> None:
        said = self.ask(site, "/ticks/4", "--change-local-addr=50ms", "--key-update=60ms")
        assert len(set(re.findall(r"local=\[127\.0\.0\.1\]:(\d+)", said))) == 2 and "k=1" in said
        assert "0 1 2 3 " in text_of(said)


def text_of(said: str) -> str:
    """What gtlsclient shows of headers and bodies, in lines of hexadecimal with their offsets."""
    found = []
    for line in said.splitlines():
        head, _, rest = line.partition("  ")
        if len(head) == 8 and rest.endswith("|"):
            found.append(rest[rest.index("|") + 1 : -1])
    return "".join(found)


class Chromium:
    """Chromium, told to use QUIC for our ports."""

    name = "Chromium (quiche)"
    browser: Any = None

    def at(self, site: Site, path: str = "/who", port: int = 0) -> Any:
        """The page, opened; one browser for all cells of one site."""
        from browser import Browser

        port = port or site.port
        if self.browser is None:
            ports = ",".join(f"localhost:{port}" for port in site.all)
            flags = (
                f"--origin-to-force-quic-on={ports}", f"--ignore-certificate-errors-spki-list={site.pin}", "--enable-quic",
                "--host-resolver-rules=MAP localhost 127.0.0.1",
            )  # fmt: skip
            self.browser = Browser(flags=flags)
        self.browser.goto(f"https://localhost:{port}{path}")
        self.browser.wait(f"location.port == '{port}' && location.pathname == '{path}' && document.readyState == 'complete'")
        assert self.browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h3"
        return self.browser

    def close(self) -> None:
        if self.browser is not None:
            self.browser.close()

    def page(self, site: Site) -> None:
        assert self.at(site).run("document.body.textContent").startswith("http/3 GET ")

    def hints(self, site: Site) -> None:
        browser = self.at(site, "/hints")
        assert browser.run("document.body.textContent").startswith("u="), "it says how urgent a page is"
        assert browser.run("performance.getEntriesByType('navigation')[0].firstInterimResponseStart") > 0

    def download(self, site: Site) -> None:
        made = "crypto.subtle.digest('SHA-256', b)).then(b => [...new Uint8Array(b)].map(n => n.toString(16).padStart(2, 0))"
        found = self.at(site).run(f"fetch('/files/large.bin').then(r => r.arrayBuffer()).then(b => {made}.join(''))")
        assert found == hashlib.sha256(FILE).hexdigest()

    def upload(self, site: Site) -> None:
        body = "new Uint8Array(1000000).map((_, i) => 3 - i % 4)"
        found = self.at(site).run(f"fetch('/digest', {{method: 'POST', body: {body}}}).then(r => r.text())")
        assert found == digest().decode()

    def events(self, site: Site) -> None:
        browser = self.at(site)
        browser.run("(self.heard = '', self.source = new EventSource('/sse'), source.onmessage = e => { heard += e.data; }, 0)")
        browser.wait("heard === '0'")
        site.go()
        browser.wait("heard === '012'")
        browser.run("source.close()")

    trailers = Cannot("shows none to scripts")
    websocket = Cannot("has no RFC 9220; opens its WebSockets over TCP beside (`test_chromium_loads_uploads_and_streams`)")
    grpc = Cannot("shows no trailers to scripts: gRPC-Web")

    def retry(self, site: Site) -> None:
        assert self.at(site, port=site.retry).run("document.body.textContent").startswith("http/3 GET ")

    early = Cannot("sends it only for a second connection within a ticket's life, which no flag asks for")
    migrate = See("test_h3_nat.py")


class QuicGo:
    """quic-go's client, version 0.29: test_h3_go.py runs all of its cells in one go, where Go is there, and in `scripts/soak`."""

    name = "quic-go 0.29"
    page = download = upload = events = early = See("test_h3_go.py")
    hints = Cannot("takes a 103 for the answer")
    trailers = grpc = Cannot("reads no trailers")
    websocket = Cannot("knows no extended CONNECT")
    retry = See("test_h3_go.py")
    migrate = Cannot("stays with its socket")


CLIENTS: tuple[Any, ...] = (Aioquic(), Qh3(), Curl(), CurlCffi(), Niquests(), Gtlsclient(), Chromium(), QuicGo())


def cells() -> list[tuple[Any, str]]:
    """Those that test_h3_matrix.py runs."""
    return [(client, feature) for client in CLIENTS for feature in FEATURES if callable(getattr(client, feature))]


def table() -> str:
    """All of it in Markdown: yes, or the number of the line below that says why not."""
    notes: list[str] = []
    lines = ["| | " + " | ".join(FEATURES) + " |", "|---|" + "---|" * len(FEATURES)]
    for client in CLIENTS:
        marks = []
        for feature in FEATURES:
            cell = getattr(client, feature)
            if isinstance(cell, Cannot):
                if cell not in notes:
                    notes.append(cell)
                marks.append(f"no ({notes.index(cell) + 1})")
            else:
                marks.append("yes" if callable(cell) else "soak")
        lines.append(f"| {client.name} | " + " | ".join(marks) + " |")
    means = "; ".join(f"*{name}*: {what}" for name, what in FEATURES.items())
    whys = "\n".join(f"{number}. {why}." for number, why in enumerate(notes, 1))
    return "\n".join(lines) + f"\n\n{means}.\n\nNo, because the client:\n\n{whys}\n"


if __name__ == "__main__":
    print(table())
