"""An extension without the stable ABI."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("plover_oneversion", sources=["native/oneversion.c"])])
