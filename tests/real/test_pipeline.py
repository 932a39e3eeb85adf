"""The pipeline example in Chromium: a file goes up in parts, over kill -9 of the server; a job compresses it; the page is told."""

import gzip
import os
import shutil
import signal
from pathlib import Path

from browser import Browser
from peers import Real

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "pipeline"


def test_a_file_goes_up_over_a_kill_and_the_page_hears_what_became_of_it() -> None:
    with Real() as peers, Browser() as page:
        home = peers.home()
        shutil.copytree(EXAMPLE / "page", home / "page")
        shutil.copy(EXAMPLE / "work.py", home)
        (home / "made").mkdir()
        config = (EXAMPLE / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@")
        server = peers.fairlead(config=config, home=home)
        server.says("Ctrl-C")
        page.goto(server.url)
        page.wait('document.querySelector("#news.open")')
        page.run('document.getElementById("slowly").checked = true; document.getElementById("make").click(); 1')
        page.wait('/MB/.test(document.querySelector(".up em")?.textContent)')
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        page.wait('document.querySelector(".up.away")')
        page.run('document.getElementById("slowly").checked = false; 1')
        server.start()
        server.ready()
        page.wait('document.querySelector(".told a")', 30)
        assert "went on at" in page.run('document.querySelector(".up em").textContent')
        assert "→" in page.run('document.querySelector(".press em").textContent')
        (made,) = (home / "made").glob("*.gz")
        (sent,) = [file for file in (home / "uploads").iterdir() if file.is_file() and file.suffix != ".json"]
        assert gzip.decompress(made.read_bytes()) == sent.read_bytes() and sent.stat().st_size > 8 << 20
        if shots := os.environ.get("FAIRLEAD_SHOTS"):
            page.screenshot(Path(shots) / "pipeline.png")
        link = page.run('document.querySelector(".told a").href')
        assert peers.curl(link).status == 200
        told = peers.curl(f"{server.url.rstrip('/')}/news?offset=-1").text
        assert sent.name in told and str(home) not in told, told  # where files lie is nothing for who follows
        os.killpg(server.pid, signal.SIGKILL)
