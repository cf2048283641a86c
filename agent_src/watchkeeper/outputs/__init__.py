"""Where log lines go, one module per kind."""
