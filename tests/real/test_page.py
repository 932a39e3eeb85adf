"""The admin page in a real Chromium, beside a real server with real traffic."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from browser import Browser
from processes import free_port

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/boom":
        raise RuntimeError("on purpose")
    if scope["path"] == "/sql":
        with scope["extensions"]["fairlead.journey"].step("sql"):
            await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def test_a_request_is_shown_with_its_own_steps_and_a_sentence(real: Any) -> None:
    port = free_port()
    server = real.fairlead("pageapp:app", "--workers", "1", "--page", f"127.0.0.1:{port}", files={"pageapp.py": APP})
    base, page = server.url.rstrip("/"), f"http://127.0.0.1:{port}"
    for path in ("/", "/sql", "/?<img%20src=x>", "/boom"):
        try:
            urllib.request.urlopen(base + path, timeout=10).read()
        except urllib.error.HTTPError as error:
            assert error.code == 500
    with Browser() as browser:
        browser.goto(page + "/")
        browser.wait("document.querySelectorAll('.row').length >= 4")
        browser.wait("document.querySelector('#state').textContent === 'ready'")
        assert not browser.run("!!document.querySelector('.rows img')")
        browser.run("[...document.querySelectorAll('.row')].find(r => r.textContent.includes('/sql')).click()")
        browser.wait("document.querySelector('.detail .sentence')")
        text = browser.run("document.querySelector('.detail').textContent")
        assert "the application" in text
        assert "“sql”" in text
        browser.wait("document.querySelector('#ends').textContent.includes('app-error')")
        browser.run("document.querySelector('#diagram-card summary').click()")
        browser.wait("document.querySelector('#diagram').naturalWidth > 500")
        assert browser.errors == []
