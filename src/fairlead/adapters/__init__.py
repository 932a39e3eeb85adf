"""Other libraries' ways of speaking to Fairlead: a taskiq broker and result backend (`taskiq`), a FastStream broker (`faststream`).

Each needs an extra (`pip install 'fairlead[taskiq]'`), and is a client of a server's topic route, by URL: programs that are no
workers of ours use it, on any machine. They are for moving in; `fairlead.job` and `fairlead.topic` do more with less between.
"""

from __future__ import annotations

from typing import NoReturn

from fairlead.core.errors import AppError


def missing(name: str) -> NoReturn:
    """Say which extra is not installed. AppError."""
    raise AppError(f"fairlead.adapters.{name} needs {name}, which is not installed", hint=f"pip install 'fairlead[{name}]'")
