"""What the agent spends its time on, from the C extension where the wheel brought one, else from its twin in Python."""
