"""Runtimes: interpreter distributions for every target, as data; fetched, checked, unpacked and read."""
