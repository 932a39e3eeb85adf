"""Finding the application that a configuration names: `module:attribute`, with errors that say which part is wrong.

Rules
1. No such module, a module that raised while it was imported, and an attribute that is not there are three different
   mistakes, and read as such. The nearest right name is offered when there is one.
2. A module's own exception is the cause (`__cause__`) of ours, with its traceback from the module on: our import
   machinery is not the user's problem.
3. What is found is ASGI or WSGI by how it can be called (`kind_of`); who knows better says so, with `interface`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from fairlead.core.errors import AppError
from fairlead.serve.grpcserver import Server as GrpcServer

IMPORTING = threading.Lock()  # workers that are threads import one at a time: nobody sees a module half made
STDLIB = sysconfig.get_path("stdlib")
EXAMPLE = 'write "module:attribute", as in "shop.main:app"'


def load(target: str, dir: str = ".", factory: bool = False) -> Any:
    """The application that `target` names. `dir` goes to the front of the import path; `factory` calls what was found.

    Raises AppError; its `__cause__` is what the module raised, if it did.
    """
    found = found_at(target, dir)
    return made(found, target) if factory else checked(found, target)


def found_at(target: str, dir: str = ".") -> Any:
    """Whatever stands at `target`; `dir` goes to the front of the import path. Raises AppError."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise AppError(f'"{target}" does not name an application', hint=EXAMPLE)
    if module_name.endswith(".py") or os.sep in module_name:
        name = module_name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise AppError(f'"{module_name}" is a file, not a module', hint=f'write "{name}:{attribute}"')
    found: Any = import_from(module_name, dir)
    for name in attribute.split("."):
        if not hasattr(found, name):
            hint = nearest_attribute(found, name)
            raise AppError(f'module "{module_name}" has no attribute "{attribute}"', hint=hint)
        found = getattr(found, name)
    return found


def import_from(name: str, dir: str) -> Any:
    """A module, with `dir` at the front of the import path. AppError."""
    with IMPORTING:
        folder = str(Path(dir).resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)
        return import_module(name, folder)


def import_module(name: str, folder: str) -> Any:
    """Import a module, or say why not."""
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            hint = nearest_module(error.name, folder)
            raise AppError(f'there is no module "{error.name}" in {folder}', hint=hint) from None
        raise raised(name, error) from trimmed(error)
    except (Exception, SystemExit) as error:
        raise raised(name, error) from trimmed(error)


def raised(name: str, error: BaseException) -> AppError:
    """The error for a module that raised: its first line, and the innermost line of the user's own code."""
    text = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {text[0].strip()}" if text else type(error).__name__
    lines = [(trace.tb_frame.f_code.co_filename, trace.tb_lineno) for trace in frames(error)]
    own = [line for line in lines if "site-packages" not in line[0] and not line[0].startswith(STDLIB)]
    if isinstance(error, SyntaxError) and error.filename:
        own = [(error.filename, error.lineno or 0)]
    where = f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""
    return AppError(f'module "{name}" raised while it was imported: {what}{where}')


def frames(error: BaseException) -> Iterator[TracebackType]:
    """The traceback from the module on: without our own frames and those of the import machinery."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "importlib" not in file:
            yield trace
        trace = trace.tb_next


def trimmed(error: BaseException) -> BaseException:
    """The exception with its traceback from the module on."""
    return error.with_traceback(next(frames(error), None))


def nearest_module(name: str, folder: str) -> str:
    """A hint: a module with nearly this name, in the package it should be in."""
    parent, _, last = name.rpartition(".")
    places = [folder]
    if parent:
        spec = find_spec(parent)
        places = list(spec.submodule_search_locations or []) if spec else []
        if not places:
            return f'"{parent}" is a module, not a package'
    names = []
    for place in map(Path, places):
        if place.is_dir():
            names += [e.stem for e in place.iterdir() if e.suffix == ".py" or (e / "__init__.py").exists()]
    close = get_close_matches(last, names, 1)
    if close:
        return f'did you mean "{parent + "." if parent else ""}{close[0]}"?'
    return f"start in the folder that has it, or say which with --dir; {EXAMPLE}"


def nearest_attribute(module: Any, name: str) -> str:
    """A hint: an attribute with nearly this name, else the callables that could be meant."""
    names = [n for n in vars(module) if not n.startswith("_")] if hasattr(module, "__dict__") else dir(module)
    close = get_close_matches(name, names, 1)
    if close:
        return f'did you mean "{close[0]}"?'
    apps = [n for n in names if kind_of(getattr(module, n)) in ("asgi", "wsgi") and not inspect.isclass(getattr(module, n))]
    return f"it has {', '.join(apps[:5])}" if apps else "it defines no application"


def made(factory: Any, target: str) -> Any:
    """What a factory makes."""
    if not callable(factory):
        raise AppError(f'"{target}" is not callable, so it is no factory', hint=f"it is of type {type(factory).__name__}")
    try:
        found = factory()
    except Exception as error:
        raise AppError(f'the factory "{target}" raised {type(error).__name__}: {error}') from error
    return checked(found, target)


def checked(found: Any, target: str) -> Callable[..., Any]:
    """The application itself, if it is one that can be served."""
    if isinstance(found, GrpcServer):
        return found  # type: ignore[return-value]
    if not callable(found):
        raise AppError(f'"{target}" is not an application', hint=f"it is of type {type(found).__name__}, not callable")
    if kind_of(found) == "factory":
        hint = "say --factory, or factory = true in a file"
        raise AppError(f'"{target}" takes no arguments, so it looks like a factory', hint=hint)
    return found  # type: ignore[no-any-return]


def kind_of(found: Any) -> str:
    """ "asgi", "wsgi", "grpc", "factory" (takes nothing) or "" (not callable), by how it can be called. In doubt it is ASGI."""
    if isinstance(found, GrpcServer):
        return "grpc"
    if not callable(found):
        return ""
    call = found if inspect.isroutine(found) or inspect.isclass(found) else type(found).__call__
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        parameters = inspect.signature(found).parameters.values()
    except (ValueError, TypeError):
        return "asgi"
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return "asgi"
    if len([p for p in needed if p.default is p.empty]) == 2:
        return "wsgi"
    return "factory" if not needed and not inspect.isclass(found) else "asgi"
