"""The kinds of outputs, one module each. A sink takes whole batches of finished lines, in a thread of its own."""
