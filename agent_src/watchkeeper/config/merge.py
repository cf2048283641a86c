"""One document out of several.

Rules:
    M1  Fragments that belong together (a folder, the answer of one source) are put beside each other: sections in which
        things have names are joined, and a name that appears twice is wrong, wherever it stands second.
    M2  Any other section stands in one fragment only.
    M3  A layer (what a source delivers) goes over what is below it: a name that it defines replaces the whole definition
        below, and what it does not name stays.
    M4  A layer has only sections that a source can deliver, and of those only the ones that this source may.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from watchkeeper.config.document import Document, Merged, Problem
from watchkeeper.config.sections import delivered_sections, named_sections
from watchkeeper.durations import kind_of


def beside(documents: Sequence[Document], file: str) -> Document:
    """Fragments as one document (M1, M2); `file` is what they are called together."""
    if len(documents) == 1:
        return documents[0]
    merged = Merged(data={}, file=file)
    for document in documents:
        merged.problems += [_placed(problem, document) for problem in document.problems]
        for section, content in _sections(document, merged).items():
            if section in named_sections() and content is None:
                merged.data.setdefault(section, {})
                merged.owners.setdefault((section,), document)
            elif section in named_sections() and isinstance(content, dict):
                _join(merged, document, section, content)
            else:
                _put(merged, document, section, content)
    return merged


def over(below: Document, layer: Document, sections: Iterable[str]) -> Document:
    """A layer over what is below it (M3, M4); no `sections`: all that a source can deliver."""
    merged = Merged(data={}, file=below.file, problems=list(below.problems))
    allowed = tuple(sections) or delivered_sections()
    _copy(below, merged)
    merged.problems += [_placed(problem, layer) for problem in layer.problems]
    for section, content in _sections(layer, merged).items():
        if section not in allowed:
            _note(
                merged, layer, (section,), f"a source may not deliver this section{_which(section, allowed)}"
            )
        elif content is not None and not isinstance(content, dict):
            merged.data[section], merged.owners = content, {**merged.owners, (section,): layer}
        else:
            merged.data[section] = {**(merged.data.get(section) or {}), **(content or {})}
            merged.owners.setdefault((section,), layer)
            merged.owners.update(dict.fromkeys(((section, name) for name in content or {}), layer))
    return merged


def _which(section: str, allowed: tuple[str, ...]) -> str:
    if section in delivered_sections():
        return f"; this one may deliver {', '.join(sorted(allowed))}"
    return "; it belongs in the file that the agent is started with"


def _copy(below: Document, merged: Merged) -> None:
    """Everything of the document below, still with its positions."""
    if isinstance(below, Merged):
        merged.data, merged.owners = dict(below.data), dict(below.owners)
        return
    for section, content in _sections(below, merged).items():
        merged.data[section] = content
        merged.owners[section,] = below


def _join(merged: Merged, document: Document, section: str, content: dict[str, Any]) -> None:
    """Add the names of a section (M1)."""
    known = merged.data.setdefault(section, {})
    merged.owners.setdefault((section,), document)
    if not isinstance(known, dict):
        return
    for name, item in content.items():
        at = (section, name)
        if name in known:
            _note(merged, document, at, f"this name is already there, in {_place(merged, at)}")
        else:
            known[name] = item
            merged.owners[at] = document


def _put(merged: Merged, document: Document, section: str, content: Any) -> None:
    """Add a section that has no names (M2)."""
    if section in merged.data:
        _note(merged, document, (section,), f"this section is already there, in {_place(merged, (section,))}")
        return
    merged.data[section] = content
    merged.owners[section,] = document


def _sections(document: Document, merged: Merged) -> dict[str, Any]:
    if document.data is None or isinstance(document.data, dict):
        return document.data or {}
    _note(merged, document, (), f"expected a mapping, found {kind_of(document.data)}")
    return {}


def _note(merged: Merged, document: Document, path: tuple[str, ...], message: str) -> None:
    merged.problems.append(_placed(Problem(document.position(path, key=True), path, message), document))


def _place(merged: Merged, path: tuple[str, ...]) -> str:
    position = merged.position(path, key=True)
    return f"{position.file}:{position.line}"


def _placed(problem: Problem, document: Document) -> Problem:
    """With the file's name in its position."""
    return problem if problem.position.file else problem.within(document.file)
