"""Collectors: the ways to make a tree. Each analyses the program for one target and says which files it needs."""
