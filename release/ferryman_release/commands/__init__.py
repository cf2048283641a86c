"""The commands of the release half: each module has a ``run`` that takes what the parser found and returns a code."""
