"""The smoke test: an artifact is run, through one or several runners, as on a machine that has nothing of ours.

:func:`smoke_artifact` gives a result and never hides one: what cannot run here is untested, with the reason.
"""

from ferryman_build.smoke.through import purpose_of, raise_for_failure, smoke_artifact

__all__ = ["purpose_of", "raise_for_failure", "smoke_artifact"]
