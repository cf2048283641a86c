"""One reconciler per kind of key."""
