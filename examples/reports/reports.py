"""A slow report as a job: it tells how far it is, can be cancelled, and fails now and then, so that retries are seen.

    fairlead run examples/reports/fairlead.toml
    curl -d '{"month": "May"}' -H 'content-type: application/json' http://127.0.0.1:8000/jobs/reports
"""

import asyncio
import random

import fairlead

PAGES = 20


@fairlead.job(retries=2, backoff=0.5, timeout=60.0)
async def build(month: str, pages: int = PAGES, pause: float = 0.25, luck: float = 0.97) -> dict[str, object]:
    """Writes a report page by page. With less than perfect luck the printer jams, and the attempt has failed."""
    job = fairlead.current_job()
    for page in range(1, pages + 1):
        await asyncio.sleep(pause)
        if random.random() > luck:
            raise RuntimeError(f"the printer jammed at page {page}")
        await job.progress({"page": page, "of": pages, "attempt": job.attempt})
    return {"month": month, "pages": pages, "attempts": job.attempt}


@fairlead.job(cron="0 3 1 * *", timezone="Europe/Oslo")
async def monthly() -> None:
    """On the first of each month, at three in the morning, whichever worker looks first."""
    await build.submit("last month")


async def app(scope, receive, send):
    """The page that watches a report by poll, long poll, event stream and WebSocket at once; and a slow answer of the old kind."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"].startswith("/slow"):  # with `Prefer: respond-async` this is a job too, without a line of code for it
        await asyncio.sleep(2.0)
        body, kind = b"done at last\n", b"text/plain"
    else:
        body, kind = PAGE, b"text/html; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>
<style>body { font: 15px/1.5 system-ui; margin: 2rem auto; max-width: 60rem } td, th { padding: .2rem .8rem; text-align: left }
 pre { margin: 0; white-space: pre-wrap } button { font: inherit; padding: .2rem 1rem }</style>
<h1>A report, watched in four ways</h1>
<p><button id="ask">Ask for a report</button> <button id="cancel" disabled>Cancel</button>
<button id="again" disabled>Retry</button>
<span id="job"></span></p>
<table><tr><th>poll<td><pre id="poll"></pre><tr><th>long poll<td><pre id="long"></pre>
<tr><th>event stream<td><pre id="stream"></pre><tr><th>WebSocket<td><pre id="socket"></pre></table>
<script src="/reports/watch.js"></script></html>
"""
