"""List, watch and status of a custom resource, over HTTP."""
