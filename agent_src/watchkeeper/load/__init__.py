"""A load generator with an open model."""
