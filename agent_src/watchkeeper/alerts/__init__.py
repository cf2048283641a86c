"""Rules over the agent's own series."""
