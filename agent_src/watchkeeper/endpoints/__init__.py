"""What the agent answers: one server behind any number of listeners, and the pages behind its paths."""
