"""Redis servers that belong together: a master with its replica, Sentinels that watch over them, a cluster. Started and stopped
with a stack."""

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import servers

CLUSTER = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no", "cluster-node-timeout": "2000"}


def words(node: servers.RedisServer, *question: str) -> str:
    """The whole of an answer."""
    command = ["redis-cli", "-p", str(node.port), *question]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


def until(condition) -> None:
    """Something that servers come to by themselves."""
    deadline = time.monotonic() + servers.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def follow(replica: servers.RedisServer, master: servers.RedisServer) -> None:
    """From now on it is that one's replica, and has what it has."""
    replica.ask("REPLICAOF", "127.0.0.1", str(master.port))
    until(lambda: "master_link_status:up" in words(replica, "INFO", "replication"))


def pair(stack: ExitStack, folder: Path) -> tuple[servers.RedisServer, servers.RedisServer]:
    """A master and its replica."""
    options = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
    master, replica = (stack.enter_context(servers.running(servers.RedisServer(folder / name, **options))) for name in "mr")
    follow(replica, master)
    return master, replica


def promote(replica: servers.RedisServer) -> None:
    """It is a master from now on."""
    replica.ask("REPLICAOF", "NO", "ONE")
    until(lambda: words(replica, "ROLE").startswith("master"))


class Sentinel(servers.RedisServer):
    """One of those who agree that a master is gone, and promote."""

    def __init__(self, folder: Path, master: servers.RedisServer, quorum: int) -> None:
        super().__init__(folder)
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor ours 127.0.0.1 {master.port} {quorum}\n"
            "sentinel down-after-milliseconds ours 1000\nsentinel failover-timeout ours 4000\n"
        )
        self.command = [self.command[0], str(file), "--sentinel"]


def sentinels(stack: ExitStack, folder: Path, master: servers.RedisServer) -> list[servers.RedisServer]:
    """Three, two of which must agree."""
    found = [stack.enter_context(servers.running(Sentinel(folder / f"s{n}", master, 2))) for n in range(3)]
    for one in found:
        until(lambda one=one: "slaves=1,sentinels=3" in words(one, "INFO", "sentinel"))
    return found


def cluster(stack: ExitStack, folder: Path, nodes: int, bare: int) -> list[servers.RedisServer]:
    """Nodes that know each other; the first `bare` have no slots, the others have them all."""
    found = [stack.enter_context(servers.running(servers.RedisServer(folder / f"c{n}", **CLUSTER))) for n in range(nodes)]
    holders = found[bare:]
    edges = [16384 * n // len(holders) for n in range(len(holders) + 1)]
    for node, low, high in zip(holders, edges, edges[1:]):
        node.ask("CLUSTER", "ADDSLOTSRANGE", str(low), str(high - 1))
    for node in found[1:]:
        found[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port))
    return found


def replicate(spare: servers.RedisServer, owner: servers.RedisServer, others: list[servers.RedisServer]) -> None:
    """A node of a cluster becomes another's replica, and all know who has which slots."""
    name = words(owner, "CLUSTER", "MYID")
    until(lambda: spare.ask("CLUSTER", "REPLICATE", name) == "+OK")
    until(lambda: "master_link_status:up" in words(spare, "INFO", "replication"))
    for node in others:
        until(lambda node=node: "cluster_slots_assigned:16384" in words(node, "CLUSTER", "INFO"))
