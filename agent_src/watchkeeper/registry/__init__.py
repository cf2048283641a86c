"""Announcing services, and finding those of others."""
