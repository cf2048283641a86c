"""Faults that are put in on purpose: what is decided (decision.py, pure) and what is going on (state.py)."""
