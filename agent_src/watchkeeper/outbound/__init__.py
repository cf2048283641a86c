"""Requests that the agent makes: a pool, limits, breakers, balancing."""
