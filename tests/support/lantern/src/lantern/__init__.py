"""Says whether the lamps are lit."""
