"""A file of the package's own, read as packages read their data."""

from importlib import resources


def text():
    """What words.txt says."""
    return resources.files("skua").joinpath("words.txt").read_text(encoding="utf-8").strip()
