"""Which of two versions is newer, without a dependency: the order of Python's version specifiers.

A version that is not of that form is older than every one that is, and such are ordered among themselves by their
numbers and words. Both sides of a channel are made by the same publisher, so a mixture is a curiosity, not a case.
"""

from __future__ import annotations

import re
from functools import lru_cache

_FORM = re.compile(
    r"""v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)
        (?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>\d*))?
        (?:-(?P<post_short>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>\d*))?
        (?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?
        (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_PRE = {"alpha": 0, "a": 0, "beta": 1, "b": 1, "preview": 2, "pre": 2, "c": 2, "rc": 2}
_LONGEST = 200  # characters of a version; Python makes no number of more than 4,300 digits
_FIRST, _LAST = -1, 9  # before every pre-release, and after all of them

Key = tuple[object, ...]


@lru_cache(maxsize=256)
def key(version: str) -> Key:
    """What versions are sorted by. Two spellings of one version (1.0 and 1.0.0) have the same key."""
    form = _FORM.fullmatch(version.strip()) if len(version) <= _LONGEST else None
    if form is None:
        return (0, _words(version))
    release = tuple(int(number) for number in form["release"].split("."))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    return (1, int(form["epoch"] or 0), release, *_phases(form), _words(form["local"] or ""))


def _phases(form: re.Match[str]) -> tuple[int, int, int, float]:
    """Pre-release and its number, post-release, development release: 1.dev1 < 1a1 < 1 < 1.post1."""
    post = -1
    if form["post"] or form["post_short"]:
        post = int(form["post_short"] or form["post_n"] or 0)
    dev = float(form["dev_n"] or 0) if form["dev"] else float("inf")
    if form["pre"]:
        pre, number = _PRE[form["pre"].lower()], int(form["pre_n"] or 0)
    else:
        pre, number = (_FIRST if form["dev"] and post < 0 else _LAST), 0
    return pre, number, post, dev


def _words(text: str) -> tuple[tuple[int, int, str], ...]:
    """The pieces between separators: words before numbers, numbers by their value."""
    pieces = [piece for piece in re.split(r"[-_.+]", text.lower()) if piece]
    return tuple(
        (1, int(piece), "") if piece.isdecimal() and len(piece) <= _LONGEST else (0, 0, piece)
        for piece in pieces
    )


def same(first: str, second: str) -> bool:
    """Whether both name one version."""
    return key(first) == key(second)


def older(first: str, second: str) -> bool:
    """Whether ``first`` comes before ``second``."""
    return key(first) < key(second)


def below(have: str, need: str) -> bool:
    """Whether a machine that has ``have`` (2.28, 10.0.19045, 11) is below ``need``; what is unknown is not below."""
    if not have or not need:
        return False
    return _numbers(have) < _numbers(need)


def _numbers(text: str) -> tuple[int, ...]:
    found = [int(number) for number in re.findall(r"\d{1,200}", text)]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
