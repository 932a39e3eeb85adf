"""Chromium's own EventSource and WebSocket on a topic kept by SQLite: all that serves is killed, and each has it all, once."""

import os
import signal

import httpx
from browser import Browser
from peers import Real
from processes import eventually
from test_process import worker_pids

PAGE = """<!doctype html><title>topic</title><script>
window.heard = []; window.framed = []; window.breaks = 0;
const source = new EventSource("/t/news?offset=-1");
source.onmessage = (event) => heard.push(JSON.parse(event.data));
source.onerror = () => breaks++;
let next = "-1";
function join() {
  const socket = new WebSocket(`ws://${location.host}/t/news?offset=${next}`, "fairlead.v1.json");
  socket.onmessage = (message) => {
    const frame = JSON.parse(message.data);
    for (const event of frame.events || []) framed.push(event.data);
    if (frame.next) next = frame.next;
  };
  socket.onclose = () => setTimeout(join, 50);
}
join();
</script>"""
FILE = f"""
[server]
workers = 2
pattern = "shared"
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "sqlite:///@FOLDER@/store.db"
[[route]]
path = "/t/{{topic}}"
topic = {{}}
[[route]]
path = "/page"
[route.respond]
content_type = "text/html"
body = '''{PAGE}'''
"""


def test_eventsource_and_websocket_go_on_after_kill_9_without_loss_or_duplicate() -> None:
    with Real() as peers, Browser() as page:
        server = peers.fairlead(config=FILE)
        server.says("Ctrl-C")
        at = server.url.rstrip("/")
        fields = {"content-type": "application/json", "producer-id": "p", "producer-epoch": "0"}
        published: list[int] = []

        def publish() -> bool:
            seq = str(len(published))
            try:
                done = httpx.post(f"{at}/t/news", content=seq, headers={**fields, "producer-seq": seq}, timeout=5)
            except httpx.HTTPError:
                return False  # the same again: a producer's retry is no duplicate
            if done.status_code in (200, 204):
                published.append(int(seq))
                return True
            return False

        def some() -> None:
            for _ in range(10):
                eventually(publish, seconds=30, what="a publish")

        some()
        page.goto(f"{at}/page")
        page.wait("window.heard && heard.length >= 10 && framed.length >= 10")
        for pid in worker_pids(server.pid):
            os.kill(pid, signal.SIGKILL)
        some()
        page.wait(f"heard.length >= {len(published)} && framed.length >= {len(published)}")
        assert page.run("heard") == published and page.run("framed") == published
        assert page.run("breaks") >= 1
