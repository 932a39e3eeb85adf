"""One JSON answer in Flask, over WSGI."""

from typing import Any

from flask import Flask

app = Flask(__name__)


@app.get("/")
def answer() -> dict[str, Any]:
    """The answer all frameworks here give."""
    return {"id": 7, "name": "lead", "tags": ["fair", "fast"]}
