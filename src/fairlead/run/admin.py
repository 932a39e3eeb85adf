"""The admin socket and the page, served by the master itself over our own stack, so that they live while every worker is stuck."""

from __future__ import annotations

from typing import Any


class Admin:
    """What the master serves beside the workers: the private socket for the commands, and the page on TCP."""

    def __init__(self, master: Any) -> None:
        self.master = master
        self.page_url = ""
        self.path = ""

    def start(self) -> None:
        """Open and serve."""

    def close(self) -> None:
        """The end."""
