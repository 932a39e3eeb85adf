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


def tls_engine() -> str:
    """How TLS is done: on the loaded libssl directly, or through Python's SSLObject."""
    try:
        from fairlead.net.tls import engine_name
    except ImportError:
        return "none"
    return str(engine_name())


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
