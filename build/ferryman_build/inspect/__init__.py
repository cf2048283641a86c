"""What an artifact needs of its machine, measured from its bytes on any host.

:func:`survey_tree` and :func:`survey_pyz` look at every file; :func:`judge` compares that with a target's promise, and
:func:`raise_for_findings` stops a build. :func:`describe`, :func:`render` and :func:`to_json` are `ferryman inspect`;
:func:`strip_elf` makes an ELF file smaller.
"""

from ferryman_build.inspect.describe import Description, describe, render, to_json
from ferryman_build.inspect.elf_strip import strip_elf
from ferryman_build.inspect.gate import Finding, Severity, judge, raise_for_findings
from ferryman_build.inspect.native import Native, Reason
from ferryman_build.inspect.pyz import needs_of_pyz, survey_pyz
from ferryman_build.inspect.survey import Survey, floor_problems, needs_of_tree, survey_tree

__all__ = [
    "Description",
    "Finding",
    "Native",
    "Reason",
    "Severity",
    "Survey",
    "describe",
    "floor_problems",
    "judge",
    "needs_of_pyz",
    "needs_of_tree",
    "raise_for_findings",
    "render",
    "strip_elf",
    "survey_pyz",
    "survey_tree",
    "to_json",
]
