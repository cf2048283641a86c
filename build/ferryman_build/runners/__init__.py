"""Runners: what runs a target's programs on this machine. One Protocol (base.py), a dict from the name to the kind."""
