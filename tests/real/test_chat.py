"""The chat example: a room joined by WebSocket, EventSource, long poll and poll in Chromium at once, over kill -9 of the server."""

import os
import shutil
import signal
from pathlib import Path

import httpx
from browser import Browser
from peers import Real
from processes import accepts, eventually

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "chat"
HEARD = '[...document.querySelectorAll("article")].map((a) => [...a.querySelectorAll("li p")].map((p) => p.textContent).reverse())'


def test_four_ways_hear_the_same_room_and_miss_nothing_when_the_server_is_killed() -> None:
    with Real() as peers, Browser() as page:
        home = peers.home()
        shutil.copytree(EXAMPLE / "page", home / "page")
        config = (EXAMPLE / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@")
        server = peers.fairlead(config=config, home=home)
        server.says("Ctrl-C")
        room = f"{server.url}/rooms/lobby"
        httpx.post(room, json={"name": "curl", "text": "<b>before</b>"})
        page.goto(server.url)
        page.wait('document.querySelectorAll(".state.open").length === 4')
        page.run('document.getElementById("name").value = "page"; document.getElementById("text").value = "hello"; 1')
        page.run('document.getElementById("say").requestSubmit()')
        page.run('document.querySelector("#poll input").oninput({target: {value: 0.5}})')
        page.wait(f"{HEARD}.every((said) => said.length === 2)")
        assert page.run(HEARD) == [["curl <b>before</b>", "page hello"]] * 4
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        eventually(lambda: not accepts(server.port), what="the last worker is gone")
        page.run('document.getElementById("text").value = "is anybody there"; document.getElementById("say").requestSubmit()')
        page.wait('document.querySelector("#websocket .state.away")')
        server.start()
        server.ready()
        httpx.post(room, json={"name": "curl", "text": "after"}, timeout=20)
        page.wait(f"{HEARD}.every((said) => said.length === 4)")
        (said,) = {tuple(one) for one in page.run(HEARD)}
        assert set(said[2:]) == {"page is anybody there", "curl after"}
        os.killpg(server.pid, signal.SIGKILL)
