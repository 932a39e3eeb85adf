"""Builds every ``x.py`` that has an ``x.pxd`` beside it, and every ``.pyx``, with Cython.

One source, two speeds: when there is no C compiler the same files install and run interpreted.
``FAIRLEAD_REQUIRE_COMPILED=1`` makes a failed compile an error; ``FAIRLEAD_SKIP_COMPILE=1`` does not try.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")
REQUIRE = os.environ.get("FAIRLEAD_REQUIRE_COMPILED") == "1"
WITHOUT_JOURNEY = os.environ.get("FAIRLEAD_WITHOUT_JOURNEY") == "1"  # for the bench only
SKIP = os.environ.get("FAIRLEAD_SKIP_COMPILE") == "1"
JOBS = min(os.cpu_count() or 1, 8)
COLD = ("core/slab", "core/histogram")  # -O1 will do
# nonecheck: a None where an object should be raises AttributeError, as interpreted; without it the process would die.
# auto_pickle: nothing here is pickled, and what Cython writes for it is a tenth of all there is to compile.
DIRECTIVES = {
    "language_level": 3,
    "nonecheck": True,
    "embedsignature": True,
    "embedsignature.format": "python",
    "auto_pickle": False,
}
FREELIST = 32  # dead objects that a class without a base keeps for the next ones; a class of a .py file cannot say it itself


def compiled_sources():
    """Paths of the files to compile: ``x.py`` with an ``x.pxd`` beside it, and every ``.pyx``."""
    paired = (p.with_suffix(".py") for p in SOURCE.rglob("*.pxd"))
    found = sorted({p for p in paired if p.exists()} | set(SOURCE.rglob("*.pyx")))
    only = tuple(filter(None, os.environ.get("FAIRLEAD_ONLY", "").split(",")))
    return [p for p in found if not only or str(p.relative_to(SOURCE / "fairlead")).startswith(only)]


def without_journey():
    """A copy of the sources where every line that ends with `# journey` does nothing: the difference is the cost."""
    target = Path("build/without-journey")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCE, target)
    for path in target.rglob("*.py"):
        path.write_text(re.sub(r"^(\s*)\S.*  # journey$", r"\1pass", path.read_text(), flags=re.M))
    return target


def flags_for(path):
    """Compiler flags of one module, without debug information. -O3 saves no instructions of a request, and takes a sixth longer."""
    if sys.platform == "win32":
        return []
    name = str(path.relative_to(SOURCE / "fairlead"))
    return ["-O1" if name.startswith(COLD) else "-O2", "-g0", "-fno-plt", "-w"]


def extensions():
    if SKIP:
        return []
    try:
        from Cython.Build import cythonize
        from Cython.Compiler import Options
    except ImportError:
        if REQUIRE:
            raise
        return []
    Options.get_directive_defaults()["freelist"] = FREELIST
    source = without_journey() if WITHOUT_JOURNEY else SOURCE
    modules = [
        Extension(
            ".".join(path.relative_to(SOURCE).with_suffix("").parts),
            [str(source / path.relative_to(SOURCE))],
            extra_compile_args=flags_for(path),
            extra_link_args=["-Wl,-z,now"] if sys.platform == "linux" else [],
            libraries=["dl"] if sys.platform == "linux" else [],
        )
        for path in compiled_sources()
    ]
    try:
        return cythonize(
            modules,
            compiler_directives=DIRECTIVES,
            build_dir=os.environ.get("FAIRLEAD_CYTHON_DIR", "build/cython"),
            include_path=[str(source)],
            quiet=True,
            nthreads=JOBS,
        )
    except Exception as error:
        if REQUIRE:
            raise
        print(f"fairlead: Cython failed, so this install runs interpreted ({error})", file=sys.stderr)
        return []


class MaybeBuild(build_ext):
    """A compiler that is missing or fails leaves an interpreted install, unless compiling is required."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or JOBS

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

    def get_outputs(self):
        return [path for path in super().get_outputs() if os.path.exists(path)]


setup(ext_modules=extensions(), cmdclass={"build_ext": MaybeBuild})
