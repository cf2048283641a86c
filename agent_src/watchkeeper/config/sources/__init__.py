"""Sources of configuration, one module per kind."""
