"""What a machine needs of a release: find it, verify it, fetch it."""

__version__ = "0.1.0"
