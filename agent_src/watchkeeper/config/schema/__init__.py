"""The schema of the configuration, one module per section; watchkeeper.config.model puts them together."""
