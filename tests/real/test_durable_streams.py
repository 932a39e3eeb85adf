"""The public conformance suite of Durable Streams (npm @durable-streams/server-conformance-tests), against a server of ours.

A part of it that takes seconds; all of it, which waits for lifetimes to end, with FAIRLEAD_DURABLE_STREAMS=whole (the soak).
"""

import json
import os
import subprocess
from pathlib import Path

from peers import Real
from processes import folder, program, unavailable

NODE = Path(__file__).resolve().parents[2] / ".cache" / "node" / "node_modules"
SUITE = NODE / "@durable-streams" / "server-conformance-tests"
PART = "Basic Stream|Append Operations|Stream Closure|Fork - Creation"
LEAST, ALL = 60, 330  # tests that must have run
FILE = """
[server]
workers = 1
[[listener]]
bind = "127.0.0.1:@PORT@"
[store]
url = "memory:"
[[route]]
path = "/v1/stream/{topic}"
[route.topic]
create = "put"
message = "12MiB"
wait = "3s"
"""
TEST = """
import { runConformanceTests } from "@durable-streams/server-conformance-tests"
runConformanceTests({ baseUrl: process.env.SERVER, longPollTimeoutMs: 4000 })
"""


def test_the_public_suite() -> None:
    program("node")
    if not SUITE.exists():
        unavailable("@durable-streams/server-conformance-tests is not in .cache/node (scripts/setup installs it by npm)")
    whole = os.environ.get("FAIRLEAD_DURABLE_STREAMS") == "whole"
    place = folder()
    (place / "suite.test.mjs").write_text(TEST)
    (place / "node_modules").symlink_to(NODE.resolve())
    with Real() as peers:
        server = peers.fairlead(config=FILE)
        server.says("Ctrl-C")
        command = [str(NODE / ".bin" / "vitest"), "run", "--root", str(place), "--reporter=json", "--outputFile=out.json"]
        command += ["--testTimeout=30000", *(() if whole else ("-t", PART))]
        env = {**os.environ, "SERVER": server.url.rstrip("/")}
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=400)
    said = json.loads((place / "out.json").read_text())
    failed = [one["fullName"] for file in said["testResults"] for one in file["assertionResults"] if one["status"] == "failed"]
    assert not failed and done.returncode == 0, failed or done.stdout + done.stderr
    assert said["numPassedTests"] >= (ALL if whole else LEAST)
