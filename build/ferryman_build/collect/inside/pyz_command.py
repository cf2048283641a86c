"""What a person can ask of a .pyz: its cache, its Python, and what it consists of."""

import os
import sys
import time

from _ferryman import cache, places, run

_USAGE = "Say one of: path, list, prune [DAYS] (0: all that are not running), warm."


def answer(needs, archive, words):
    """`--ferryman-cache WORDS`; the exit code."""
    word, values = (words[0], words[1:]) if words else ("", [])
    known = {"path": _path, "list": _list, "prune": _prune, "warm": _warm}
    if word not in known or (values and word != "prune") or len(values) > 1:
        run.leave(
            needs,
            run.EXIT_USAGE,
            f"--ferryman-cache does not know {' '.join(words) or 'what to do'!r}.",
            _USAGE,
        )
    return known[word](needs, archive, values)


def sbom(archive):
    """Print what the program consists of; the exit code."""
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        content = opened.read("_ferryman/sbom.cdx.json")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os._exit(141)  # as if the signal had ended it
    return 0


def _say(text):
    """In the encoding of file names: a path that the terminal's cannot express is printed all the same (UTF-8 on Windows)."""
    sys.stdout.buffer.write(os.fsencode(text) + b"\n")
    sys.stdout.flush()


def _path(needs, archive, _values):
    _say(run.find(needs, archive).folder)
    return 0


def _list(needs, _archive, _values):
    for program in _programs(needs):
        for key, folder in cache.trees(program):
            day = time.strftime("%Y-%m-%d", time.gmtime(cache.used(folder)))
            state = "running" if cache.running(folder) else "unused"
            _say(f"{day}  {state:<7}  {folder}{'  (this one)' if key == needs['content'][:32] else ''}")
    return 0


def _prune(needs, _archive, values):
    text = values[0] if values else str(needs["days"])
    if not text.isdigit() or (not values and text == "0"):
        sentence = (
            f"{text!r} is not a number of days." if values else "it was built to keep its trees for ever."
        )
        run.leave(
            needs, run.EXIT_USAGE, sentence, "Say a number of days; 0 removes every tree that is not running."
        )
    gone = [folder for program in _programs(needs) for folder in cache.prune(program, int(text))]
    _say("\n".join(f"removed {folder}" for folder in gone) or "nothing to remove")
    return 0


def _warm(needs, archive, _values):
    tree = run.find(needs, archive)
    wrong = cache.mend(archive, tree)
    if wrong:  # what was written just now is on its way to the disk: a second look flushes and seals
        cache.mend(archive, tree)
    _say(tree.folder)
    if wrong:
        _say("what was wrong in it is mended")
    return 0


def _programs(needs):
    """The folders that hold this program's trees, in every place that this user may change."""
    found = [place for place in places.places() if not place.reason and not place.readonly]
    return [
        path
        for path in (os.path.join(place.path, f"{needs['name']}.pyz") for place in found)
        if os.path.isdir(path)
    ]


def interpreter(words):
    """FERRYMAN_INTERPRETER=1: a plain Python with the program's packages; the exit code of what ran."""
    import code
    import runpy

    if words[:1] == ["-c"] and len(words) > 1:
        sys.argv[:] = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  # as -c does
    elif words[:1] == ["-m"] and len(words) > 1:
        sys.argv[:] = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words:
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        code.interact()
    return 0
