"""From a route's `retry.grpc` and a gRPC service config (gRFC A2, A6) to the policies that the proxy goes by.

A service config is JSON: {"methodConfig": [{"name": [{"service", "method"}], "timeout", "retryPolicy"}]}. A name without a
method is the whole service, an empty name every call. What it says besides is the client's own affair and is left alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError
from fairlead.run.answers import Retry
from fairlead.serve.grpcproxy import Calls, Policy
from fairlead.wire.grpcwords import NAMES

MOST = 5  # attempts, whatever a service config says (A6: maxAttempts is capped at 5)


def calls(proxy: Any, given: Retry) -> Calls:
    """What takes the gRPC calls of a proxy. Raises ConfigError."""
    statuses = [b"%d" % NAMES.index(name) for name in given.grpc]
    usual = Policy(statuses, given.times + 1)
    found = service_config(given.service_config) if given.service_config else {}
    return Calls(proxy, found.pop(b"", usual), found)


def service_config(path: str) -> dict[bytes, Policy]:
    """The policies of a service config by path, by service, or b"" for all. Raises ConfigError."""
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {}
        for one in made.get("methodConfig", []):
            policy = policy_of(one)
            for name in one.get("name", []):
                service, method = name.get("service", ""), name.get("method", "")
                found[f"/{service}/{method}".encode() if service else b""] = policy
        return found
    except OSError as error:
        raise ConfigError(f"cannot read the service config {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path} is no gRPC service config: {error}", hint="see gRFC A6 for retryPolicy") from None


def policy_of(one: dict[str, Any]) -> Policy:
    """The policy of one methodConfig."""
    retry = one.get("retryPolicy")
    timeout = round(seconds(one["timeout"]) * 1e9) if "timeout" in one else 0
    if retry is None:
        return Policy((), 1, timeout=timeout)
    most = int(retry["maxAttempts"])
    if most < 2:
        raise ValueError("maxAttempts is 2 or more")
    return Policy(
        [b"%d" % number(status) for status in retry["retryableStatusCodes"]],
        min(most, MOST),
        seconds(retry["initialBackoff"]),
        seconds(retry["maxBackoff"]),
        float(retry["backoffMultiplier"]),
        timeout,
    )


def seconds(text: str) -> float:
    """A duration of protobuf's JSON: "1.5s"."""
    if not isinstance(text, str) or not text.endswith("s"):
        raise ValueError(f'{text!r} is no duration: write "1.5s"')
    return float(text[:-1])


def number(status: Any) -> int:
    """A status by name or number."""
    return status if isinstance(status, int) else NAMES.index(status)
