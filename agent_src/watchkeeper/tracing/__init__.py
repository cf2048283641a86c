"""Spans, their context, and where they go."""
