"""One JSON answer in FastAPI, its default response class."""

from typing import Any

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def answer() -> dict[str, Any]:
    """The answer all frameworks here give."""
    return {"id": 7, "name": "lead", "tags": ["fair", "fast"]}
