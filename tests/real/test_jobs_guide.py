"""The guide's commands, run as they stand there: each line that begins with $ is given to one shell, and each line that follows it
must be in what it prints. And `examples/outbox`: what a rolled back transaction sends, and what a committed one does.
"""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from peers import Real
from processes import eventually

ROOT = Path(__file__).resolve().parents[2]


def exchanges(text: str) -> list[tuple[str, list[str]]]:
    """(command, expected lines) of all console blocks."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def example(peers: Real, name: str, *files: str) -> object:
    """A server of an example, in a copy of its folder."""
    home = peers.home()
    for file in files:
        where = ROOT / "examples" / name / file
        (shutil.copytree if where.is_dir() else shutil.copy)(where, home / file)
    config = (ROOT / "examples" / name / "fairlead.toml").read_text().replace("127.0.0.1:8000", "127.0.0.1:@PORT@")
    server = peers.fairlead(config=config, home=home)
    server.says("Ctrl-C")
    return server


def test_every_exchange_of_the_guide_is_as_it_says(tmp_path: Path) -> None:
    told = exchanges((ROOT / "docs" / "guide" / "jobs.md").read_text())
    assert len(told) > 20
    with Real() as peers:
        server = example(peers, "reports", "reports.py", "page")
        marks = [f"echo; echo '=== {number}'" for number in range(len(told))]
        script = "\n".join(part for (command, _), mark in zip(told, marks) for part in (mark, command))
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                              env={"BASE": server.url.rstrip("/"), "PATH": "/usr/local/bin:/usr/bin:/bin"})  # fmt: skip
    answers = re.split(r"=== \d+\n", done.stdout)[1:]
    assert len(answers) == len(told), done.stderr
    for (command, lines), answer in zip(told, answers):
        for line in lines:
            assert line in answer, f"{command}\n  does not say {line!r} but\n{answer}"


def test_an_order_s_event_and_mail_go_out_with_its_transaction() -> None:
    with Real() as peers:
        server = example(peers, "outbox", "shop.py")
        base = server.url.rstrip("/")

        def order(number: int, more: str = "") -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"{base}/orders/{number}{more}", b"", timeout=20) as answer:
                    return answer.status, answer.read().decode().strip()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode().strip()

        assert order(1, "?fail=1") == (402, "the card was declined")
        code, mail = order(2)
        assert code == 201

        def state() -> str:
            try:
                return json.load(urllib.request.urlopen(f"{base}/mails/{mail}", timeout=20)).get("result", "")
            except urllib.error.HTTPError:  # the relay has not come by yet
                return ""

        eventually(lambda: state() == "mail for order 2", 30)
        events = json.load(urllib.request.urlopen(f"{base}/topics/orders?offset=-1", timeout=20))
        assert events == [{"id": 2}]
