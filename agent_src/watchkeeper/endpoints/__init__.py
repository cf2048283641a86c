"""What the agent answers: metrics, health, status, profiles, control."""
