"""How the agent starts and stops: service managers, signals, hooks."""
