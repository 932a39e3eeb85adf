"""systemd: sockets that it opened for us (sd_listen_fds(3)), and the words that it wants to hear (sd_notify(3)).

Rules
1. LISTEN_FDS descriptors from 3 on are ours when LISTEN_PID is our process id; LISTEN_FDNAMES gives them names. The
   variables are removed at once, so that no child takes the sockets for its own.
2. A passed socket belongs to the listener whose address it is bound to; else to the listener of its name (FileDescriptorName=);
   what fits neither is closed with a warning, never served by accident.
3. Words go to NOTIFY_SOCKET as one datagram; a name that begins with @ is abstract. Nobody there is no error.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic_ns

from fairlead.run.units import Address

log = logging.getLogger("fairlead")

FIRST = 3  # SD_LISTEN_FDS_START


@dataclass
class Passed:
    """A listening socket from outside: the address it is bound to, and the name that systemd gave it."""

    sock: socket.socket
    address: Address
    name: str = ""
    made: tuple[int, int] | None = None  # of a unix path that we unlink at the end
    fixed: bool = True  # no more sockets can be made beside it: they belong to systemd's user


def passed_sockets() -> list[Passed]:
    """The sockets that systemd passed to this process, and the variables gone from the environment (rule 1)."""
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    if not count.isdigit() or pid != str(os.getpid()):
        return []
    found = []
    for place in range(int(count)):
        name = names[place] if place < len(names) else ""
        sock = socket.socket(fileno=FIRST + place)
        sock.set_inheritable(False)
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            log.warning(
                "descriptor %d of systemd (%s) is no listening stream socket: it is closed", FIRST + place, name
            )
            sock.close()
            continue
        sock.setblocking(False)
        found.append(Passed(sock, bound_to(sock), name))
    return found


def bound_to(sock: socket.socket) -> Address:
    """The address of a socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Address("", 0, os.fsdecode(name))
    return Address(name[0], name[1])


def take(passed: list[Passed], listener: str, address: Address) -> list[Passed]:
    """The passed sockets of an address (rule 2), taken out of the list."""
    mine = [one for one in passed if one.address == address] or [
        one for one in passed if one.name == listener and one.address.is_unix == address.is_unix
    ][:1]
    for one in mine:
        passed.remove(one)
    return mine


def notify(**words: object) -> bool:
    """Say words such as READY=1 to systemd; True when somebody was told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    message = "\n".join(f"{key}={value}" for key, value in words.items()).encode()
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(message, "\0" + path[1:] if path.startswith("@") else path)
        return True
    return False


def ready(status: str) -> None:
    """We serve."""
    notify(READY=1, MAINPID=os.getpid(), STATUS=status)


def reloading() -> None:
    """A reload has begun; `ready` ends it. MONOTONIC_USEC lets Type=notify-reload tell this one from earlier ones."""
    notify(RELOADING=1, MONOTONIC_USEC=monotonic_ns() // 1000, STATUS="reloading")


def stopping() -> None:
    """The end has begun."""
    notify(STOPPING=1, STATUS="finishing what is open")


def watchdog_pause() -> float:
    """Seconds between two signs of life, a third of what WatchdogSec= asks for; 0 when it does not ask us."""
    micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not micros.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(micros) / 3e6


def alive() -> None:
    """A sign of life, when WatchdogSec= asks for them."""
    if watchdog_pause():
        notify(WATCHDOG=1)
