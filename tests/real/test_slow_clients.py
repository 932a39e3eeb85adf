"""slowhttptest's four modes: whatever it holds open, others are served to the end."""

import pytest
from peers import Real


@pytest.mark.parametrize("mode", ["H", "B", "R", "X"], ids=["headers", "bodies", "ranges", "reads"])
def test_the_service_stays_available_to_the_end(mode: str, real: Real):
    server = real.fairlead("answers:app", "--page", "off", "--access-log", "off", files={"answers.py": APP})
    assert real.slowhttptest(mode, server.url + "/", seconds=5, connections=200)
    assert real.curl(server.url).status == 200


APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 200_000})
"""
