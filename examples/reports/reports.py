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
    """A slow answer of the old kind. With `Prefer: respond-async` it is a job too, without a line of code for it."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(2.0)
    body = b"done at last\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
