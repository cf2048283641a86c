"""What an artifact needs of its machine, measured from its bytes on any host.

:func:`needs_of_tree` and :func:`needs_of_pyz` fill :class:`ferryman_build.artifacts.Needs`; :func:`floor_problems`
compares them with a target's promise; :func:`describe` and :func:`render` are `ferryman inspect`;
:func:`strip_elf` makes an ELF file smaller. Not measured yet: CPU level, Mach-O signatures.
"""

from ferryman_build.inspect.describe import Description, describe, render
from ferryman_build.inspect.elf_strip import strip_elf
from ferryman_build.inspect.native import Native, Reason
from ferryman_build.inspect.pyz import needs_of_pyz, survey_pyz
from ferryman_build.inspect.survey import Survey, floor_problems, needs_of_tree, survey_tree

__all__ = [
    "Description",
    "Native",
    "Reason",
    "Survey",
    "describe",
    "floor_problems",
    "needs_of_pyz",
    "needs_of_tree",
    "render",
    "strip_elf",
    "survey_pyz",
    "survey_tree",
]
