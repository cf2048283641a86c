"""Artifacts to fleet: checksums, signatures, publishing, channels and the machines that receive them."""
