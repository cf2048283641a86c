# How the extension is found: everything else about this distribution is in pyproject.toml. `native/*.c` becomes the one
# module `watchkeeper._native`, for the limited API of CPython 3.11 (cp311-abi3). It is optional: a machine without a C
# compiler or without Python.h gets the plain wheel (py3-none-any), and watchkeeper.native takes its twin in Python.
#
# WATCHKEEPER_EXTENSION says what is wanted: "auto" (default: with the extension where it can be compiled), "require"
# (fail where it cannot: cibuildwheel), "no" (the plain wheel).
#
# The decision is made here, before setup(): the name of a wheel is settled before anything is compiled, and an extension
# that is merely declared optional would leave a wheel that claims a platform and has nothing of it inside.
from __future__ import annotations

import logging
import os
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no limited API: a wheel of its own
WINDOWS = sysconfig.get_platform().startswith("win")
LINUX = sysconfig.get_platform().startswith("linux")


def extension() -> Extension:
    """The extension module; paths are relative, so that a checkout's place is in no object file."""
    return Extension(
        "watchkeeper._native",
        sources=sorted(f"native/{path.name}" for path in (HERE / "native").glob("*.c")),
        depends=sorted(f"native/{path.name}" for path in (HERE / "native").glob("*.h")),
        define_macros=[("WATCHKEEPER_FULL_API", "1")] if FREE_THREADED else [],
        py_limited_api=not FREE_THREADED,
        extra_compile_args=[] if WINDOWS else ["-O2", "-g0", "-std=c11", "-fvisibility=hidden", "-pthread"],
        extra_link_args=["-s", "-pthread"] if LINUX else [],
    )


class BuildExtension(build_ext):
    """build_ext without what the interpreter's own link line would leave in the file."""

    def build_extensions(self) -> None:
        """An abi3 module needs no libpython, so the way to one (-L, -rpath: a path of this machine) has no use in it."""
        link = getattr(self.compiler, "linker_so", None)
        if link:
            self.compiler.set_executable(
                "linker_so", [word for word in link if not word.startswith(("-Wl,-rpath", "-L"))]
            )
        super().build_extensions()


def compiles() -> bool:
    """Whether this machine makes an extension: a compiler, and the interpreter's headers."""
    from setuptools import Distribution

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(
            "#include <Python.h>\nint watchkeeper_probe(void) { return 0; }\n", encoding="utf-8"
        )
        command = build_ext(
            Distribution({"name": "probe", "ext_modules": [Extension("probe", [str(source)])]})
        )
        command.build_temp = command.build_lib = folder
        logging.disable(logging.CRITICAL)
        try:
            command.finalize_options()
            command.run()
        except (Exception, SystemExit):  # noqa: BLE001  # distutils has no common base for "there is no compiler"
            return False
        finally:
            logging.disable(logging.NOTSET)
        return True


wanted = os.environ.get("WATCHKEEPER_EXTENSION", "auto")
if wanted not in ("auto", "require", "no"):
    raise SystemExit(f'WATCHKEEPER_EXTENSION is "auto", "require" or "no", and not "{wanted}".')
native = wanted == "require" or (wanted == "auto" and compiles())
if wanted == "auto" and not native:
    print("watchkeeper: no C compiler (or no Python.h) here: the wheel is built without the extension")

setup(
    ext_modules=[extension()] if native else [],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if native and not FREE_THREADED else {},
)
