"""Builds every ``x.py`` that has an ``x.pxd`` beside it, and every ``.pyx``, with Cython.

One source, two speeds: when there is no C compiler the same files install and run interpreted.
``FAIRLEAD_REQUIRE_COMPILED=1`` makes a failed compile an error; ``FAIRLEAD_SKIP_COMPILE=1`` does not try.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")
REQUIRE = os.environ.get("FAIRLEAD_REQUIRE_COMPILED") == "1"
SKIP = os.environ.get("FAIRLEAD_SKIP_COMPILE") == "1"
DIRECTIVES = {"language_level": 3, "embedsignature": True, "embedsignature.format": "python"}


def compiled_sources():
    """Paths of the files to compile: ``x.py`` with an ``x.pxd`` beside it, and every ``.pyx``."""
    paired = (p.with_suffix(".py") for p in SOURCE.rglob("*.pxd"))
    found = sorted({p for p in paired if p.exists()} | set(SOURCE.rglob("*.pyx")))
    only = tuple(filter(None, os.environ.get("FAIRLEAD_ONLY", "").split(",")))
    return [p for p in found if not only or str(p.relative_to(SOURCE / "fairlead")).startswith(only)]


def extensions():
    if SKIP:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRE:
            raise
        return []
    macros = [("CYTHON_TRACE", "0")]
    if os.environ.get("FAIRLEAD_WITHOUT_JOURNEY") == "1":  # bench only: what the journey costs, counted in instructions
        macros.append(("FAIRLEAD_WITHOUT_JOURNEY", "1"))
    modules = [
        Extension(
            ".".join(path.relative_to(SOURCE).with_suffix("").parts),
            [str(path)],
            define_macros=macros,
            extra_compile_args=["-O2", "-g0", "-fno-plt", "-w"] if sys.platform != "win32" else [],
            extra_link_args=["-Wl,-z,now"] if sys.platform == "linux" else [],
            libraries=["dl"] if sys.platform == "linux" else [],
        )
        for path in compiled_sources()
    ]
    try:
        return cythonize(modules, compiler_directives=DIRECTIVES, build_dir=os.environ.get("FAIRLEAD_CYTHON_DIR", "build/cython"), include_path=[str(SOURCE)], quiet=True)
    except Exception as error:
        if REQUIRE:
            raise
        print(f"fairlead: Cython could not translate the sources, so this install runs interpreted ({error})", file=sys.stderr)
        return []


class MaybeBuild(build_ext):
    """A compiler that is missing or fails leaves an interpreted install, unless compiling is required."""

    def run(self):
        try:
            super().run()
        except Exception as error:
            self.give_up(error)

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error):
        if REQUIRE:
            raise error
        print(f"fairlead: not compiled, so this install runs interpreted ({error})", file=sys.stderr)

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()

    def get_outputs(self):
        return [path for path in super().get_outputs() if os.path.exists(path)]


setup(ext_modules=extensions(), cmdclass={"build_ext": MaybeBuild})
