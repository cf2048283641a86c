"""Check the workflows in .github: their form, their expressions and shell lines, their security.

    python tools/workflows.py [ROOT]

Runs each checker to its end, prints what it found, and ends with 1 when any found something, with 4 when one is not
installed. All of them come from locks/dev.txt and none asks the network, so that the same commit always gets the same
answer. `nox -s lint` runs this.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FOUND, TOOL_MISSING = 1, 4
ROOT = Path(__file__).resolve().parent.parent


class Checker(NamedTuple):
    """A program, its options, what it answers for, and the files that it is given (patterns below the root)."""

    program: str
    options: "tuple[str, ...]"
    what: str
    patterns: "tuple[str, ...]"

    def files(self, root: Path) -> "list[str]":
        """What there is to check, named as the person sees it: relative to the root."""
        found = (path for pattern in self.patterns for path in root.glob(pattern))
        return sorted(path.relative_to(root).as_posix() for path in found)


WORKFLOWS = (".github/workflows/*.yml", ".github/workflows/*.yaml")
ACTIONS = (".github/actions/*/action.yml",)
DEPENDABOT = (".github/dependabot.yml",)
SCHEMA = "--builtin-schema"

CHECKERS = (
    # Its own search for optional helpers would make the answer depend on the machine; shell lines are single commands.
    Checker("actionlint", ("-no-color", "-shellcheck=", "-pyflakes="), "syntax and expressions", WORKFLOWS),
    Checker("zizmor", ("--offline", "--persona", "pedantic", "--strict-collection", "--color=never", "--quiet"),
            "security", (*WORKFLOWS, *ACTIONS, *DEPENDABOT)),
    Checker("check-jsonschema", (SCHEMA, "vendor.github-workflows"), "form of the workflows", WORKFLOWS),
    Checker("check-jsonschema", (SCHEMA, "vendor.github-actions"), "form of the actions", ACTIONS),
    Checker("check-jsonschema", (SCHEMA, "vendor.dependabot"), "form of the updates", DEPENDABOT),
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run every checker; the worst of their ends as an exit code."""
    root = Path(arguments[0]).resolve() if arguments else ROOT
    missing = [program for program in dict.fromkeys(one.program for one in CHECKERS) if find(program) is None]
    for program in missing:
        sys.stderr.write(
            f"{program} is not installed; `nox -s lint` has it, or: pip install --require-hashes -r locks/dev.txt\n"
        )
    ends = [run(checker, root) for checker in CHECKERS if checker.program not in missing]
    return max([TOOL_MISSING if missing else 0, *ends])


def run(checker: Checker, root: Path) -> int:
    """Run one, print what it finds, and say in a line how it ended; without files for it there is nothing to say."""
    files = checker.files(root)
    if not files:
        return 0
    command = [find(checker.program) or checker.program, *checker.options, *files]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, encoding="utf-8", check=False)  # fmt: skip
    verdict = "found something" if done.returncode else "ok"
    sys.stdout.write(f"{checker.program}, {checker.what}: {verdict}\n")
    if done.returncode:
        sys.stdout.write(done.stdout)
    return FOUND if done.returncode else 0


def find(program: str) -> "str | None":
    """The program of the environment that runs this, else the one on PATH."""
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return shutil.which(program, path=beside)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
