"""HTTP/3 by Chromium: pages, uploads, many requests at once, event streams, and a WebSocket beside it; told to, by itself, and as
`fairlead demo` says. For QUIC, Chromium takes certificates of public CAs only, but for the names of origins that it is told of.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser
from peers import Real, surroundings
from processes import free_port

from fairlead.net import certs

APPS = Path(__file__).resolve().parent / "apps"
CONFIG = """
[server]
workers = 2
[admin]
page = "off"
[log]
access = "off"
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"
protocols = ["h1", "h2", "h3"]
tls = {{ certificate = "{cert}", key = "{key}" }}
[[route]]
app = "h3page:app"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    authority = certs.dev_ca(tmp_path_factory.mktemp("ca"))
    cert, key = authority.leaf()
    spki = certs.pin(cert)
    with Real() as real:
        files = {name: (APPS / name).read_text() for name in ("h3app.py", "h3back.py", "h3page.py")}
        started = real.fairlead(config=CONFIG.format(cert=cert, key=key), files=files, port=free_port(), tls=True)
        yield SimpleNamespace(real=real, port=started.port, spki=spki, url=f"https://localhost:{started.port}")
        started.kill()


def test_chromium_loads_uploads_and_streams(server):
    flags = (
        f"--origin-to-force-quic-on=localhost:{server.port}",
        f"--ignore-certificate-errors-spki-list={server.spki}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        "--enable-quic",
    )
    with Browser(flags=flags) as browser:
        browser.goto(server.url + "/")
        browser.wait("document.title == 'h3' && said.done")
        said = json.loads(browser.run("JSON.stringify(said)"))
    assert "error" not in said, said
    assert said["get"].startswith("http/3 GET ")
    assert said["post"].startswith("300000 ")
    assert (said["large"], said["many"], said["sse"], said["ws"]) == (700_000, 30, "012", "hello")
    assert (said["page"], said["protocols"]) == ("h3", "h3")


def test_chromium_comes_over_by_itself_where_the_first_answer_says_so(server):
    """Told of another port of the same name, so that the certificate is good and nothing is forced."""
    flags = ("--origin-to-force-quic-on=localhost:1", f"--ignore-certificate-errors-spki-list={server.spki}", "--enable-quic")
    with Browser(flags=(*flags, "--host-resolver-rules=MAP localhost 127.0.0.1")) as browser:
        browser.goto(server.url + "/who?0")
        browser.wait("document.body.textContent.startsWith('http/2 GET')")
        for number in range(1, 200):
            browser.goto(f"{server.url}/who?{number}")
            browser.wait(f"location.search === '?{number}' && document.body.textContent")
            if browser.run("document.body.textContent").startswith("http/3 GET"):
                return
    raise AssertionError("it stays with HTTP/2")


def test_the_demo_answers_over_http_3_as_it_says_and_its_page_shows_it(real):
    home = real.home()
    demo = real.run(sys.executable, "-m", "fairlead", "demo", "--quiet", home=home, env=surroundings(home))
    said = demo.says(r"\n  chromium (.*) \\\n(.*)\n")
    *flags, url = shlex.split(said[1] + said[2])
    page = demo.says(r"(http://127\.0\.0\.1:\d+/) ")[1]
    with Browser(width=420, flags=tuple(flag for flag in flags if "user-data-dir" not in flag)) as browser:
        browser.goto(url)
        browser.wait("document.body.textContent.includes('anchor')")
        browser.goto(page)
        browser.wait("document.querySelector('.version.v3')")
        browser.run("[...document.querySelectorAll('.row')].find(r => r.textContent.includes('/items')).click()")
        browser.wait("document.querySelector('.detail .fall')")
        detail = browser.run("document.querySelector('.detail').textContent")
        assert "HTTP/3 over QUIC" in detail and "round trip" in detail and "packets lost 0" in detail, detail
        steps = browser.run("[...document.querySelectorAll('.fall > span:has(.dot)')].map(s => s.textContent)")
        assert {"acceptfirst datagram", "tlshandshake", "parse", "process", "encode", "send"} <= set(steps), steps
        assert browser.run("document.documentElement.scrollWidth") <= 420, "nothing stands outside of a phone's screen"
        browser.goto(url)
        browser.wait("document.body?.textContent.includes('anchor')")
        for _ in range(3):  # one after the other: requests whose heads came together share a datagram's stamp, which the first has
            assert browser.run("fetch('/large').then(r => r.arrayBuffer()).then(b => b.byteLength)") > 1_000_000
        browser.goto(page)
        large = "[...document.querySelectorAll('.row')].filter(r => r.textContent.includes('/large')).map(r => r.dataset.id)"
        browser.wait(f"{large}.length === 3")
        told = [browser.run(f"fetch('/api/requests/{one}').then(r => r.json())") for one in browser.run(large)]
        steps = [{f"{step['name']}: {step['also']}" for step in one["steps"]} for one in told]
        assert any({"buffer: datagram", "loop: ", "read: ", "decrypt: ", "parse: "} <= one for one in steps), steps
        assert not [error for error in browser.errors if "favicon" not in error]
    demo.kill()
