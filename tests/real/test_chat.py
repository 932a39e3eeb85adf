"""The chat example: a room joined by WebSocket, EventSource, long poll and poll in Chromium at once."""

import shutil
from pathlib import Path

import httpx
from browser import Browser
from peers import Real

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "chat"
HEARD = '[...document.querySelectorAll("article")].map((a) => [...a.querySelectorAll("li p")].map((p) => p.textContent).reverse())'


def test_four_ways_hear_the_same_room() -> None:
    with Real() as peers, Browser() as page:
        home = peers.home()
        shutil.copytree(EXAMPLE / "page", home / "page")
        config = (EXAMPLE / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@")
        server = peers.fairlead(config=config, home=home)
        server.says("Ctrl-C")
        room = f"{server.url}/rooms/lobby"
        httpx.post(room, json={"name": "curl", "text": "<b>before</b>"}, timeout=60)
        page.goto(server.url)
        page.wait('document.querySelectorAll(".state.open").length === 4')
        page.run('document.getElementById("name").value = "page"; document.getElementById("text").value = "hello"; 1')
        page.run('document.getElementById("say").requestSubmit()')
        page.run('document.querySelector("#poll input").oninput({target: {value: 0.5}})')
        page.wait(f"{HEARD}.every((said) => said.length === 2)")
        assert page.run(HEARD) == [["curl <b>before</b>", "page hello"]] * 4
        page.run('document.querySelector("#sse .out").click(); document.getElementById("text").value = "is anybody there"; 1')
        page.run('document.getElementById("say").requestSubmit()')
        page.wait(f"{HEARD}.filter((said) => said.length === 3).length >= 3")  # the one outside hears it when it is back
        server.kill()
