"""A page as a browser loads it, by libcurl: first the document, then all of its parts at once, over as many connections as the
version is used with: six for HTTP/1.1, one for HTTP/2 and HTTP/3. Each load begins without a connection. Prints a line of JSON
for each.

    python bench/pageload.py https://10.9.0.2:8443 --loads 100 --versions h1,h2,h3

One client for all three, so that what differs is the protocol. TCP is told to use CUBIC, and must then say that it does; ngtcp2's
congestion control in libcurl is CUBIC.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from typing import Any

import pycurl

# what 30 parts of a page weigh: style, scripts, pictures, large pictures, fonts
PARTS = [20_000] * 4 + [60_000] * 8 + [5_000] * 4 + [40_000] * 8 + [120_000] * 4 + [35_000] * 2
DOCUMENT = 40_000
VERSIONS = {
    "h1": (pycurl.CURL_HTTP_VERSION_1_1, pycurl.CURL_HTTP_VERSION_1_1, 6),
    "h2": (pycurl.CURL_HTTP_VERSION_2TLS, pycurl.CURL_HTTP_VERSION_2_0, 1),
    "h3": (pycurl.CURL_HTTP_VERSION_3ONLY, pycurl.CURL_HTTP_VERSION_3, 1),
}
PATIENCE = 120


def cubic(descriptor: int, purpose: int) -> int:
    """libcurl made a socket."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"cubic"
    return 0


class Load:
    """One load of the page."""

    def __init__(self, origin: str, version: str) -> None:
        self.origin, self.version = origin, version
        self.ask, self.expected, connections = VERSIONS[version]
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self.multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self.began = 0.0
        self.connects = 0

    def part(self, size: int) -> Any:
        """A request for `size` bytes."""
        handle = pycurl.Curl()
        handle.got = 0  # type: ignore[attr-defined]
        handle.size = size  # type: ignore[attr-defined]

        def take(data: bytes) -> None:
            handle.got += len(data)  # type: ignore[attr-defined]

        for option, value in (
            (pycurl.URL, f"{self.origin}/bytes/{size}"), (pycurl.HTTP_VERSION, self.ask), (pycurl.WRITEFUNCTION, take),
            (pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0), (pycurl.PIPEWAIT, self.version != "h1"),
            (pycurl.SOCKOPTFUNCTION, cubic), (pycurl.TIMEOUT, PATIENCE), (pycurl.PROXY, ""), (pycurl.SSL_SESSIONID_CACHE, 0),
        ):  # fmt: skip
            handle.setopt(option, value)
        self.multi.add_handle(handle)
        return handle

    def finish(self, handles: list[Any]) -> list[float]:
        """When each was there, in seconds since the start."""
        left, at = set(handles), []
        while left:
            self.multi.perform()
            while True:
                queued, good, bad = self.multi.info_read()
                if bad:
                    raise SystemExit(f"{self.version}: {bad[0][2]}")
                for handle in good:
                    at.append(time.monotonic() - self.began)
                    self.check(handle)
                    left.discard(handle)
                    self.multi.remove_handle(handle)
                    handle.close()
                if not queued:
                    break
            if left:
                wait = self.multi.timeout()
                self.multi.select(min(wait, 500) / 1000 if wait >= 0 else 0.5)
        return at

    def check(self, handle: Any) -> None:
        """It is whole, and came as it was to come."""
        self.connects += handle.getinfo(pycurl.NUM_CONNECTS)
        found = handle.getinfo(pycurl.RESPONSE_CODE), handle.getinfo(pycurl.INFO_HTTP_VERSION), handle.got
        if found != (200, self.expected, handle.size):
            raise SystemExit(f"{self.version}: status, version and size are {found}")

    def run(self) -> dict[str, Any]:
        """The whole page."""
        self.began = time.monotonic()
        document = self.finish([self.part(DOCUMENT)])
        parts = self.finish([self.part(size) for size in PARTS])
        self.multi.close()
        return {"version": self.version, "document": document[0], "median": sorted(parts)[len(parts) // 2],
                "page": max(parts), "connections": self.connects}  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("origin")
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--versions", default="h1,h2,h3")
    given = parser.parse_args()
    for _ in range(given.loads):
        for version in given.versions.split(","):  # in turn, so that what the machine does besides meets all alike
            print(json.dumps(Load(given.origin, version).run()), flush=True)
            time.sleep(0.2)  # what is still under way on the link is not the next one's


if __name__ == "__main__":
    sys.exit(main())
