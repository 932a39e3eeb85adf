"""The job of the pipeline: compress what was uploaded, and tell the topic how it goes.

It may run twice when a worker dies in the middle: it writes beside, renames at the end, and what it tells has the upload's id, so
a page that hears something again shows nothing new.
"""

import asyncio
import gzip
import os
import time
from pathlib import Path

import fairlead

PIECE = 1 << 20


@fairlead.job(retries=3, timeout=3600, lease=10)
async def compress(upload):
    """`upload` is what the server knows of a finished file: id, path, length, filename."""
    topic = fairlead.topic("pipeline")
    source = Path(upload["path"])
    made = source.parent.parent / "made" / f"{upload['id']}.gz"
    made.parent.mkdir(exist_ok=True)
    began, told = time.monotonic(), 0.0
    job = fairlead.current_job()
    await topic.publish({"id": upload["id"], "attempt": job.attempt}, type="compressing")
    for percent in pieces(source, made):
        await asyncio.sleep(0)  # other work of this process, and a wish to cancel, come in here
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            await job.progress({"percent": percent})
            await topic.publish({"id": upload["id"], "percent": percent, "attempt": job.attempt}, type="compressing")
    found = {
        "id": upload["id"],
        "name": upload.get("filename") or upload["id"],
        "before": upload["length"],
        "after": made.stat().st_size,
        "seconds": round(time.monotonic() - began, 3),
        "file": made.name,
    }
    await topic.publish(found, type="compressed", dedupe=f"compressed-{upload['id']}")
    return found


def pieces(source, made):
    """Compress a piece at a time; the percentage after each."""
    beside = made.with_suffix(".part")
    size, done = max(1, source.stat().st_size), 0
    with open(source, "rb") as reading, gzip.open(beside, "wb", compresslevel=6) as writing:
        while piece := reading.read(PIECE):
            writing.write(piece)
            done += len(piece)
            yield round(100 * done / size)
    os.replace(beside, made)
