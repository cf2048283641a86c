# ruff: noqa: UP031  # Python 2.7 reads this file
# The first line of a .pyz (its __main__.py). This file and check.py are read by whatever Python the program is started
# with, 2.7 or 3 of any age: no syntax and no import here that only newer ones have (tests/unit/toolbuild/test_pyz_inside.py).
import sys

from _ferryman import check, needs

problem = check.problem(needs.NEEDS, check.facts())
if problem:
    sys.stderr.write("%s: %s\n" % (needs.NEEDS["name"], problem))
    sys.exit(check.EXIT_MACHINE)

if __name__ == "__main__":
    from _ferryman import run

    run.main(needs.NEEDS)
