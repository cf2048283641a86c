"""Faults that are put in on purpose."""
