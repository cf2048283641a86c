"""What the agent's own process does: samples, heap, tasks, threads, collections."""
