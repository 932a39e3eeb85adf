"""What this install is: its version, compiled or interpreted, and the event loop and TLS engine it would use."""

from __future__ import annotations

from importlib.util import find_spec

__version__ = "0.1.0"


def compiled() -> bool:
    """True when the hot modules were compiled."""
    spec = find_spec("fairlead.core.journey")
    return bool(spec and spec.origin and not spec.origin.endswith(".py"))


def loop_name(wanted: str = "auto") -> str:
    """The event loop that would be used: "uvloop" or "asyncio"."""
    return "uvloop" if wanted != "asyncio" and find_spec("uvloop") is not None else "asyncio"


def tls_engine(tried: bool = False) -> str:
    """How TLS is done: "openssl" (the loaded libssl directly) or "ssl" (Python's SSLObject). `tried`: as a server
    decides it, after a trial in a child process; otherwise what this install would try first."""
    try:
        from fairlead.net import tls
    except ImportError:
        return "none"
    return tls.engine_kind() if tried else "ssl" if tls.unusable() else "openssl"


def describe() -> str:
    """The line that `fairlead --version` prints."""
    import platform
    import ssl

    speed = "compiled" if compiled() else "interpreted"
    engine = tls_engine()
    return (
        f"fairlead {__version__} ({speed}, {loop_name()}, TLS {engine} on {ssl.OPENSSL_VERSION.split('  ')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()})"
    )
