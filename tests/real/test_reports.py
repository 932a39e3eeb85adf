"""`examples/reports` in a real Chromium: a job watched by poll, long poll, event stream and WebSocket at once, cancelled, and
run again; and jobs on the admin page, with a schedule, a dead letter and the button that redrives it.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from browser import Browser
from processes import eventually, free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "reports"


def post(url: str, body: object = None) -> Any:
    """A POST of JSON."""
    data = json.dumps(body).encode() if body is not None else b""
    asked = urllib.request.Request(url, data=data, method="POST", headers={"content-type": "application/json"})
    return urllib.request.urlopen(asked, timeout=20)


def test_a_report_is_watched_in_four_ways_cancelled_run_again_and_on_the_page(real: Any) -> None:
    port = free_port()
    admin = f'[admin]\npage = "127.0.0.1:{port}"\ntoken = "env:PAGE_TOKEN"\n'
    config = (EXAMPLE / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@") + admin
    home = real.home()
    shutil.copy(EXAMPLE / "reports.py", home)
    shutil.copytree(EXAMPLE / "page", home / "page")
    server = real.fairlead(config=config, home=home, env={"PAGE_TOKEN": "open"})
    server.says("Ctrl-C")
    base, page = server.url.rstrip("/"), f"http://127.0.0.1:{port}"
    lines = ("poll", "long", "stream", "socket")

    def all_say(word: str) -> str:
        return "&&".join(f"document.querySelector('#{name} .state')?.textContent === '{word}'" for name in lines)

    with Browser() as browser:
        browser.goto(base + "/")
        browser.wait("document.querySelector('#socket')")  # made by the script, in one go with what the buttons do
        browser.run("document.querySelector('#ask').click()")
        browser.wait(all_say("running"))
        browser.run("document.querySelector('#cancel').click()")
        browser.wait(all_say("cancelled"))
        browser.run("document.querySelector('#again').click()")
        browser.wait(all_say("running"))
        assert browser.errors == []
        doomed = base + post(base + "/jobs/reports", {"month": "June", "pages": 1, "pause": 0, "luck": -1}).headers["location"]
        browser.goto(page + "/")
        browser.wait("document.querySelector('#jobs-card')?.hidden === false")
        browser.wait("document.querySelector('#jobs-running').textContent.includes('reports:build')")
        browser.wait("document.querySelector('#jobs-cron').textContent.includes('0 3 1 * *')")
        browser.wait("document.querySelector('#jobs-tried').textContent.includes('the printer jammed at page 1')")
        eventually(lambda: json.load(urllib.request.urlopen(doomed, timeout=20))["state"] == "failed", 60)
        browser.wait("document.querySelector('#jobs-dead')?.hidden === false")
        browser.run("document.querySelector('#jobs-dead button').click()")
        browser.run("document.querySelector('#token').value = 'open'")
        browser.run("document.querySelector('#ask .primary').click()")
        eventually(lambda: json.load(urllib.request.urlopen(doomed, timeout=20))["state"] != "failed", 60)
        assert browser.errors == []
