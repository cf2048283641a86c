"""Child processes: starting and reading them (child.py), and when to start and stop them (lifecycle.py)."""
