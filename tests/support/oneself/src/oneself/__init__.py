"""Says what it sees of itself."""
