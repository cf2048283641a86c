"""Wrappings: from a tree (or, for a .pyz, from wheels) to one file that ships."""
