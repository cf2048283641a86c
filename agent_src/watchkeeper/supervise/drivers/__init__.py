"""How a service is run: one module per driver."""
