"""Topics and kill -9: workers, the store's owner, the engine and the master are killed under load; every event is accounted for."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import program

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_nothing_acknowledged_is_lost_and_every_follower_has_it_in_order(store: str) -> None:
    pytest.importorskip("websockets")
    if store == "redis":
        pytest.importorskip("redis")
        program("redis-server")
    command = [sys.executable, "-P", str(ROOT / "scripts" / "topickills"), "--seconds", "4", "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, start_new_session=True)
    assert done.returncode == 0, done.stdout + done.stderr
