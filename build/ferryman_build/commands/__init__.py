"""Commands that have a module of their own; :mod:`ferryman_build.cli` imports one when it is called."""
