"""What is made from the docstrings under the fields of the schema: run this file after changing one.

An agent that is built without docstrings could not say them, so they are kept as data: config/descriptions.py. The page
docs/agent/configuration.md is made from that and from the types.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "agent_src" / "watchkeeper" / "config"
DESCRIPTIONS = CONFIG / "descriptions.py"
PAGE = ROOT / "docs" / "agent" / "configuration.md"
HEAD = '''\
"""What the docstrings of the schema say, by struct and field; under "" what the struct's own says.

Made by tests/support/schema_docs.py; a test holds it equal to the docstrings.
"""

from __future__ import annotations

# fmt: off
'''


def descriptions() -> dict[str, dict[str, str]]:
    """From the sources: struct to field to text."""
    found: dict[str, dict[str, str]] = {}
    for file in [*sorted((CONFIG / "schema").glob("*.py")), CONFIG / "model.py"]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[f"{file.stem}.{node.name}"] = dict(_of_class(node))
    return {name: fields for name, fields in sorted(found.items()) if fields}


def _of_class(node: ast.ClassDef) -> list[tuple[str, str]]:
    texts = [("", _flat(ast.get_docstring(node) or ""))]
    for before, after in zip(node.body, node.body[1:], strict=False):
        field = isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and before.target.id
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if field and is_text and isinstance(after.value.value, str):
            texts.append((field, _flat(after.value.value)))
    return [(name, text) for name, text in texts if text]


def _flat(text: str) -> str:
    return " ".join(text.split())


def module() -> str:
    """The text of config/descriptions.py."""
    rows = ["DESCRIPTIONS: dict[str, dict[str, str]] = {"]
    for name, fields in descriptions().items():
        texts = ", ".join(f"{_quoted(field)}: {_quoted(text)}" for field, text in fields.items())
        rows.append(f"    {_quoted(name)}: {{{texts}}},")
    return HEAD + "\n".join([*rows, "}", "# fmt: on"]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main() -> None:
    """Write both."""
    DESCRIPTIONS.write_text(module(), encoding="utf-8")
    sys.path.insert(0, str(ROOT / "agent_src"))
    from watchkeeper.config.markdown import markdown

    PAGE.write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
