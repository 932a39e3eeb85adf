"""Bodies larger than every buffer pass whole, both ways, through an application and through a proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Real
from processes import Process

APP = (Path(__file__).resolve().parent.parent.parent / "bench" / "apps" / "plain.py").read_text()
PROXY = """
[[listener]]
name = "web"
bind = "127.0.0.1:@PORT@"

[[route]]
path = "/*"
proxy = {{ upstream = "origin" }}

[[upstream]]
name = "origin"
servers = ["127.0.0.1:{port}"]
"""


@pytest.fixture(scope="module", params=["app", "proxy"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    """The plain application (`/big/N` streams N bytes, a POST is counted), and a proxy before it."""
    with Real() as peers:
        app = peers.fairlead("plain:app", "--workers", "1", files={"plain.py": APP})
        behind = request.param == "proxy"
        yield peers.fairlead("--workers", "1", config=PROXY.format(port=app.port)) if behind else app


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 131_072, 3_000_000, 48_000_000])
def test_an_answer_of_any_size_arrives_whole(real: Real, server: Process, size: int) -> None:
    answer = real.curl(f"{server.url}/big/{size}", seconds=10)
    assert (answer.status, len(answer.body), answer.exit_code) == (200, size, 0), answer.stderr


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 3_000_000])
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_an_upload_of_any_size_arrives_whole(
    real: Real, server: Process, tmp_path: Path, size: int, framing: str
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(size))
    chunked = ["-H", "Transfer-Encoding: chunked"] if framing == "chunked" else []
    answer = real.curl(f"{server.url}/count", "-X", "POST", "-T", str(upload), *chunked, seconds=10)
    assert (answer.status, answer.text) == (200, f"{size}\n"), answer.stderr
