"""The extension of plover: two C files, of which the second has a function that nobody outside may see."""

from setuptools import Extension, setup

CORE = Extension(
    "plover._core",
    sources=["native/core.c", "native/digest.c"],
    depends=["native/digest.h"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=True,
    extra_compile_args=["-fvisibility=hidden"],
)

setup(ext_modules=[CORE], options={"bdist_wheel": {"py_limited_api": "cp311"}})
