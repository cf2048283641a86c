"""Ferryman's build half: from a Python project's source to artifacts for every target."""

__version__ = "0.1.0"
