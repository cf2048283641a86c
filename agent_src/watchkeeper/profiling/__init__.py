"""What the process is doing: samples of its stacks, its memory, its tasks, threads and garbage. Nothing here runs unasked."""
