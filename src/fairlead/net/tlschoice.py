"""Which TLS engine connections get: libssl itself, or `ssl.SSLObject`.

The fast one reads two pointers from structs that are not public, so it is used only for layouts that were checked, and
after a child process has tried it. `FAIRLEAD_TLS_ENGINE=ssl|openssl` forces one. Decided once per process; the trial is
made once per process tree, whose answer `FAIRLEAD_TLS_TRIED` hands down.
"""

from __future__ import annotations

import _ssl
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from fairlead.core.errors import ConfigError

# (major, minor) of CPython -> sizes of _SSLContext and _SSLSocket for which the two pointers were seen where we read
# them
KNOWN_LAYOUTS = {(3, 11): (96, 96), (3, 12): (96, 80), (3, 13): (112, 80)}

leaf: Any = None
_kind = ""
_why = ""


def engine_kind() -> str:
    """ "openssl" or "ssl": the engine that connections get. Decided once per process; the trial once per process
    tree.
    """
    global _kind, _why
    if not _kind:
        wanted = os.environ.get("FAIRLEAD_TLS_ENGINE", "")
        if wanted not in ("", "ssl", "openssl"):
            raise ConfigError(f"FAIRLEAD_TLS_ENGINE={wanted} is not known", hint="use ssl or openssl")
        _why = "FAIRLEAD_TLS_ENGINE=ssl" if wanted == "ssl" else unusable() or tried_in_a_child()
        if _why and wanted == "openssl":
            raise ConfigError(f"FAIRLEAD_TLS_ENGINE=openssl cannot be had: {_why}", hint="leave it unset, or use ssl")
        _kind = "ssl" if _why else "openssl"
    return _kind


def forget_engine_kind() -> None:
    """Decide again at the next look, after a change of the environment."""
    global _kind, _why
    _kind = _why = ""


def why_not_openssl() -> str:
    """Why the fast engine is not used; "" when it is."""
    engine_kind()
    return _why


def unusable() -> str:
    """Bind `_libssl` and say why it cannot be used here; "" when it can."""
    global leaf
    if sys.implementation.name != "cpython" or object.__basicsize__ != 16:
        return "this interpreter is not a 64 bit CPython with the GIL"
    sizes = (_ssl._SSLContext.__basicsize__, _ssl._SSLSocket.__basicsize__)  # type: ignore[attr-defined]
    if KNOWN_LAYOUTS.get(sys.version_info[:2]) != sizes:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"the ssl module of Python {version} has a layout {sizes} that was not checked"
    if ssl.OPENSSL_VERSION_INFO[0] < 3:
        return f"{ssl.OPENSSL_VERSION} is older than OpenSSL 3"
    try:
        from fairlead.net import _libssl
    except ImportError:
        return "this install is not compiled"
    if not _libssl.load(_ssl.__file__):
        return "Python's ssl module hides its OpenSSL"
    leaf = _libssl
    return ""


def tried_in_a_child() -> str:
    """Let a child process use the engine once: a wrong guess about memory must not take the server down."""
    mark = f"{sys.version_info[:3]} {ssl.OPENSSL_VERSION} {leaf.__file__}"
    known = os.environ.get("FAIRLEAD_TLS_TRIED", "")
    if known.endswith(mark):
        return "" if known.startswith("good") else "the trial in a child process failed"
    source = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {source!r}); from fairlead.net import tls; tls.self_test()"
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
        good = child.returncode == 0 and child.stdout.strip() == b"good"
    except (OSError, subprocess.SubprocessError):
        good = False
    os.environ["FAIRLEAD_TLS_TRIED"] = ("good " if good else "bad ") + mark
    return "" if good else "the trial in a child process failed"
