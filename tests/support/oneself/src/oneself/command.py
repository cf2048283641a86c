"""oneself [ACT [ARGUMENT ...]]: without an act, a report as JSON."""

import sys


def main():
    from oneself import acts, endings, processes, report

    if len(sys.argv) > 1 and sys.argv[1] == "--version":
        print("oneself 1.4.2")
        return 0
    name, *words = sys.argv[1:] or ["report"]
    for module in (report, acts, endings, processes):
        act = getattr(module, name.replace("-", "_"), None)
        if act is not None:
            return act(*words)
    print(f"there is no act {name!a}", file=sys.stderr)
    return 2
