"""HTTP/3 beside HTTP/2 (and HTTP/1.1 over six connections) on a link that loses packets: how long a page takes. A table and a plot.

    scripts/bench --case lossy                      # prints; needs root, for namespaces and TUN devices
    scripts/bench --case lossy --write              # writes docs/guide/http3-loss.{svg,png,md}
    python bench/lossy.py --losses 0,1,2 --loads 100

One Fairlead, one worker, behind a link of 50 ms round trip and 20 Mbit/s (`link.py`); one client, libcurl, for the three versions
(`pageload.py`): a document of 40 KB and then 30 parts, 1.6 MB in all, each load from a cold start. CUBIC on both sides of both
transports. The links of the different losses run beside each other; the versions on one link take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import install
import peers
from install import say
from link import Link

HERE = Path(__file__).resolve().parent
DELAY, RATE = 25.0, 20.0  # ms each way, Mbit/s
NAMES = {"h1": "HTTP/1.1, 6 connections", "h2": "HTTP/2", "h3": "HTTP/3"}
COLOURS = {"h1": "#999999", "h2": "#d1495b", "h3": "#00798c"}
HEAD = """# A page on a link that loses packets

Seconds until a page of 31 parts, 1.6 MB, is there, from a cold start: `scripts/bench --case lossy --write` (as root). What it
means: [http3.md](http3.md).

"""
CONFIG = """[server]
workers = 1
[admin]
page = "off"
[log]
access = "off"
[[listener]]
bind = "{host}:8443"
protocols = ["h1", "h2", "h3"]
socket = {{ congestion = "cubic" }}
quic = {{ datagram = {datagram} }}
[listener.tls]
certificate = "{cert}"
key = "{key}"
[[route]]
app = {{ target = "page:app", dir = "{apps}" }}
"""


class Run:
    """All loads over one link."""

    def __init__(self, loss: float, number: int, given: argparse.Namespace) -> None:
        self.loss, self.number, self.given = loss, number, given
        self.loads: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        self.error = ""

    def go(self) -> None:
        """In a thread; `error` says what went wrong."""
        try:
            with tempfile.TemporaryDirectory() as folder, Link(DELAY, self.loss, RATE, self.number) as link:
                self.on(link, Path(folder))
            self.facts.update(link.told)
        except (OSError, subprocess.SubprocessError, SystemExit) as error:
            self.error = f"{error}"

    def on(self, link: Link, folder: Path) -> None:
        """Server up, loads, server down."""
        cert, key = peers.certificate()
        config = CONFIG.format(host=link.b, cert=cert, key=key, apps=HERE / "apps", datagram=self.given.datagram)
        (folder / "fairlead.toml").write_text(config)
        env = {**os.environ, "PYTHONPATH": str(install.fairlead()), "XDG_RUNTIME_DIR": str(folder)}
        argv = [str(install.PYTHON), "-P", "-m", "fairlead", "run", str(folder / "fairlead.toml")]
        with open(folder / "log", "w") as log:
            server = subprocess.Popen(link.inside("b", argv), env=env, stdout=log, stderr=log)
        try:
            self.until_it_answers(link, folder)
            self.facts["rtt_ms"] = self.round_trip(link)
            self.load(link, env)
        finally:
            server.terminate()
            server.wait(30)

    def until_it_answers(self, link: Link, folder: Path) -> None:
        """The first answer, over TCP."""
        ask = link.inside("a", ["curl", "-sk", "--max-time", "2", "-o", "/dev/null", f"https://{link.b}:8443/bytes/1"])
        for _ in range(50):
            if subprocess.run(ask).returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit(f"the server does not answer: {(folder / 'log').read_text()[-800:]}")

    def round_trip(self, link: Link) -> float:
        """The least of some TCP handshakes, in ms."""
        ask = ["curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{time_connect}", f"https://{link.b}:8443/bytes/1"]
        seen = [subprocess.run(link.inside("a", ask), capture_output=True, text=True).stdout for _ in range(5)]
        return round(1000 * min(float(one or 9) for one in seen), 1)

    def load(self, link: Link, env: dict[str, str]) -> None:
        """The client's lines; in the middle of them, what the server's TCP says of itself."""
        argv = [str(install.PYTHON), str(HERE / "pageload.py"), f"https://{link.b}:8443"]
        argv += ["--loads", str(self.given.loads), "--versions", self.given.versions]
        client = subprocess.Popen(link.inside("a", argv), env=env, stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        for line in client.stdout:
            self.loads.append(json.loads(line))
            if "tcp" not in self.facts:
                seen = subprocess.run(link.inside("b", ["ss", "-Htin"]), capture_output=True, text=True).stdout
                if " cubic " in seen or " bbr " in seen or " reno " in seen:
                    self.facts["tcp"] = sorted(set(re.findall(r"\s(cubic|bbr|reno)\s", seen)))
        if client.wait():
            raise SystemExit(f"the client failed at a loss of {self.loss:g} %")

    def times(self, version: str) -> list[float]:
        """Seconds of each page."""
        return sorted(one["page"] for one in self.loads if one["version"] == version)


def quantile(times: list[float], part: float) -> float:
    """The nearest rank."""
    return times[min(len(times) - 1, int(part * len(times)))]


def table(runs: list[Run], versions: list[str]) -> str:
    """Markdown."""
    lines = ["| loss | version | p50 | p90 | p99 | mean | loads |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        for version in versions:
            times = run.times(version)
            marks = " | ".join(f"{quantile(times, part):.2f} s" for part in (0.5, 0.9, 0.99))
            lines.append(
                f"| {run.loss:g} % | {NAMES[version]} | {marks} | {statistics.fmean(times):.2f} s | {len(times)} |"
            )
    return "\n".join(lines)


def facts(runs: list[Run]) -> str:
    """What shows that the link was what it was to be."""
    lines = []
    for run in runs:
        told = run.facts
        lost = 100 * told.get("lost", 0) / max(told.get("count", 0), 1)
        lines.append(
            f"- {run.loss:g} %: round trip {told.get('rtt_ms')} ms; {told.get('count')} packets, {lost:.2f} % lost, "
            f"{told.get('dropped')} dropped by the full queue; the relay was late by {told.get('late_p99_ms')} ms at its 99th "
            f"percentile; the server's TCP said {', '.join(told.get('tcp', ['nothing']))}"
        )
    return "\n".join(lines)


def plotted(raw: Path, path: Path) -> None:
    """The plot, by an interpreter that has what it needs."""
    argv = [str(install.PYTHON), __file__, "--plot", str(raw), "--out", str(path)]
    subprocess.run(argv, check=True)


def plot(given: argparse.Namespace) -> None:
    """How many of the loads were done after how many seconds, a panel for each loss."""
    versions, path = given.versions.split(","), given.out
    runs = []
    for one in json.loads(given.plot.read_text()):
        runs.append(Run(one["loss"], 0, given))
        runs[-1].loads = one["loads"]
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "font.size": 10, "svg.hashsalt": "fairlead"})
    figure, panels = plt.subplots(1, len(runs), figsize=(4.2 * len(runs), 4.0), sharey=True, squeeze=False)
    most = max(run.times(version)[-1] for run in runs for version in versions)
    for panel, run in zip(panels[0], runs, strict=True):
        for version in versions:
            times = run.times(version)
            panel.step(
                [0, *times], [0, *[100 * (n + 1) / len(times) for n in range(len(times))]], where="post",
                color=COLOURS[version], label=NAMES[version], linewidth=1.8,
            )  # fmt: skip
        panel.set_title(f"{run.loss:g} % loss")
        panel.set_xlim(0.5, most * 1.02)
        panel.set_xlabel("seconds until the page is there")
        panel.set_yticks([0, 50, 90, 99])
        panel.grid(True, alpha=0.3)
    panels[0][0].set_ylabel("% of the loads")
    panels[0][0].legend(loc="lower right", fontsize=8)
    figure.suptitle(f"A page of 31 parts, 1.6 MB, over {2 * DELAY:g} ms and {RATE:g} Mbit/s")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/lossy.py")
    parser.add_argument("--losses", default="0,1,2", help="percent each way")
    parser.add_argument("--loads", type=int, default=100)
    parser.add_argument("--versions", default="h1,h2,h3")
    parser.add_argument("--datagram", type=int, default=1280, help="bytes of the server's QUIC datagrams")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write docs/guide/http3-loss.*")
    parser.add_argument("--out", type=Path, default=install.ROOT / "docs" / "guide" / "http3-loss")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="only draw what a run wrote with --json")
    given = parser.parse_args(words)
    if given.plot:
        plot(given)
        return 0
    if os.geteuid():
        say("this needs root: network namespaces and TUN devices")
        return 1
    install.servers()
    runs = [Run(float(loss), number, given) for number, loss in enumerate(given.losses.split(","))]
    threads = [threading.Thread(target=run.go) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        if run.error:
            say(f"loss {run.loss:g} %: {run.error}")
            return 1
    versions = given.versions.split(",")
    text = f"{table(runs, versions)}\n\n{facts(runs)}\n"
    print(text)
    if not given.json:
        given.json = Path(tempfile.mkdtemp()) / "loads.json"
    raw = [{"loss": run.loss, "facts": run.facts, "loads": run.loads} for run in runs]
    given.json.write_text(json.dumps(raw, indent=1))
    if given.write:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.with_suffix(".md").write_text(HEAD + text)
        plotted(given.json, given.out)
        say(f"wrote {given.out}.md, .svg and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
