"""The version, alone: setuptools reads it without importing the package, and `--version` without importing the rest."""

__version__ = "0.1.0"
