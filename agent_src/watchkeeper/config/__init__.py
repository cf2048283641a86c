"""Configuration: what it may say, where it comes from, and which of it is in force."""
