"""What is measured on this machine, one module per collector."""
