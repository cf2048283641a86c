"""Watchkeeper: an operations agent for one machine.

Configuration becomes a snapshot, its changed keys go through one work queue, reconcilers compare what is wanted with
what is there, act once, and say when to look again; what they know is served as status and metrics.
"""

from watchkeeper._version import __version__ as __version__
