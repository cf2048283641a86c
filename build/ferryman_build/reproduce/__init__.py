"""`ferryman reproduce`: build again from the same source under other circumstances, and compare every byte.

elsewhere.circumstances()   what can be varied on this machine, and what cannot
again.py                    the second build's process: other umask, fewer processors
session.reproduce(…)        copy, build, compare
differ.differences(…)       where two files differ, down to the member, and the likely cause
"""
