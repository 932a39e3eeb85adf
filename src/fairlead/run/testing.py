"""A pytest plugin: serve an application on a free port for a test, and stop it after.

    def test_shop(fairlead_server):
        server = fairlead_server(app)                       # or "shop.main:app", or the path of a configuration
        assert httpx.get(server.url + "/").status_code == 200

    def test_secure(fairlead_server):
        server = fairlead_server(app, tls="dev")            # https://localhost:PORT, trusted by verify=server.ca
        assert httpx.get(server.url, verify=server.ca).status_code == 200

The server runs in a thread with an event loop of its own, so tests may be sync or async, and use any client. With `tls="dev"`
it has the development CA of this machine, made on first use. Its options are those of `fairlead.Server`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fairlead.run.embed import Server


@pytest.fixture
def fairlead_server() -> Iterator[Callable[..., Server]]:
    """Starts servers for one test: `fairlead_server(app, **options)` gives a running `fairlead.Server`."""
    from fairlead.run.embed import Server  # not before a test asks for it: pytest imports this module in every run

    with ExitStack() as stack:
        yield lambda app, **options: stack.enter_context(Server(app, **options))
