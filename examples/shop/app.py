"""A small shop: fast, slow, streaming and database-like routes, so that the journey page has something to show.

fairlead run app:app          from this folder; `fairlead demo` serves it over HTTPS, with a second app behind a proxy
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

ITEMS = {number: {"id": number, "name": name, "price": 5 * number + 4} for number, name in enumerate(
    ("anchor", "block", "cleat", "davit", "eyebolt", "fender", "grommet", "halyard"), 1)}  # fmt: skip


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Starts with the worker, ends with it."""
    yield {"opened": True}


app = FastAPI(title="The shop", lifespan=lifespan)


def step(request: Request, name: str) -> Any:
    """Time a part of this request under its own name; nothing under another server."""
    journey = request.scope.get("extensions", {}).get("fairlead.journey")
    return journey.step(name) if journey is not None else nullcontext()


@app.get("/")
async def home() -> dict[str, Any]:
    """Fast: nothing but JSON."""
    return {
        "shop": "The chandlery",
        "items": len(ITEMS),
        "try": ["/items", "/items/3", "/report", "/events", "/upstream/"],
    }


@app.get("/items")
async def items(request: Request) -> list[dict[str, Any]]:
    """One query, as a database would take it."""
    with step(request, "sql"):
        await asyncio.sleep(random.uniform(0.002, 0.006))
    with step(request, "render"):
        return sorted(ITEMS.values(), key=lambda item: item["price"])


@app.get("/items/{number}")
async def item(number: int, request: Request) -> dict[str, Any]:
    """A query, and now and then a miss."""
    with step(request, "sql"):
        await asyncio.sleep(0.001)
    if number not in ITEMS:
        raise HTTPException(404, f"there is no item {number}")
    return ITEMS[number]


@app.post("/orders", status_code=201)
async def order(request: Request) -> dict[str, Any]:
    """Reads a body, then two queries one after the other."""
    wanted = await request.json()
    with step(request, "sql"):
        await asyncio.sleep(0.004)
    with step(request, "payment"):
        await asyncio.sleep(random.uniform(0.01, 0.03))
    return {"order": random.randrange(10_000), "wanted": wanted}


@app.get("/report")
async def report(request: Request) -> dict[str, Any]:
    """Slow: a query that should have had an index."""
    with step(request, "sql"):
        await asyncio.sleep(random.uniform(0.15, 0.4))
    return {"sold": 42}


@app.get("/events")
async def events() -> StreamingResponse:
    """A stream: ten lines, one each twentieth of a second."""

    async def lines() -> AsyncIterator[bytes]:
        for number in range(10):
            yield f"event {number}\n".encode()
            await asyncio.sleep(0.05)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/large")
async def large() -> StreamingResponse:
    """A megabyte: shows the time spent in sending, and waiting for a slow client."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(65536)

    return StreamingResponse(chunks(), media_type="application/octet-stream")
