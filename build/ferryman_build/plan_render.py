"""The plan for people: a table, below it every reason with its cure, and a closing count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferryman_build.plan import Plan, Row, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STYLE = {Status.READY: "green", Status.BLOCKED: "red"}
_COLUMNS = ("target", "kind", "status", "made by", "python", "floor", "smoke test", "file")


def render_plan(plan: Plan, console: Console) -> None:
    """Print ``plan``; without colours, rules and wrapping when ``console`` is not a terminal."""
    if console.is_terminal:
        _render_rich(plan, console)
        return
    for line in plain_lines(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def plain_lines(plan: Plan) -> list[str]:
    """The plan as text, one row a line: for logs, pipes and ``grep``."""
    cells = [_COLUMNS, *(_cells(row) for row in plan.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_title(plan), ""]
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    lines += ["", *target_lines(plan)]
    for (reason, cure), rows in grouped_blocks(plan).items():
        lines += ["", f"{Status.BLOCKED}  {_names(rows)}", f"    {reason}", f"    {cure}"]
    return [*lines, "", closing_line(plan)]


def _title(plan: Plan) -> str:
    return f"{plan.project.name} {plan.project.version}, planned on {plan.host}"


def _cells(row: Row) -> tuple[str, ...]:
    made_by = " + ".join(dict.fromkeys(name for name in (row.collector, row.bundler) if name))
    smoke = row.runner or "untested"
    return row.target, row.kind.value, row.status.value, made_by, row.python, row.floor, smoke, row.file


def target_lines(plan: Plan) -> list[str]:
    """What each target's artifacts have in common: runtime, the project's own wheel, and who tries them."""
    found: dict[str, dict[str, None]] = {}
    for row in plan.rows:
        found.setdefault(row.target, {}).update(dict.fromkeys(_common(row)))
    width = max(map(len, found), default=0)
    return [f"{target.ljust(width)}  {'; '.join(facts)}" for target, facts in found.items() if facts]


def _common(row: Row) -> list[str]:
    runtime = f"runtime {row.runtime} ({_needs(row)})" if row.runtime else ""
    own = f"own wheel {row.own_wheel}" if row.own_wheel else ""
    return [text for text in (runtime, own, f"tried by {row.runner}" if row.runner else row.untested) if text]


def _needs(row: Row) -> str:
    return (
        f"needs {row.runtime_floor}" if row.runtime_floor else "not fetched yet, so its needs are not known"
    )


def closing_line(plan: Plan) -> str:
    """How many of the artifacts can be built here."""
    ready = sum(row.status is Status.READY for row in plan.rows)
    targets = len({row.target for row in plan.rows})
    return f"{ready} READY, {len(plan.rows) - ready} BLOCKED of {len(plan.rows)} artifacts for {targets} targets."


def grouped_blocks(plan: Plan) -> dict[tuple[str, str], list[Row]]:
    """Blocked rows by what blocks them, so that one reason is said once."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in plan.rows:
        if row.status is Status.BLOCKED:
            groups.setdefault((row.reason, row.cure), []).append(row)
    return groups


def _names(rows: list[Row]) -> str:
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kinds.setdefault(row.target, []).append(row.kind.value)
    return ", ".join(f"{target} ({', '.join(names)})" for target, names in kinds.items())


def _render_rich(plan: Plan, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text(_title(plan), style="bold"))
    console.print(_table(plan))
    for line in target_lines(plan):
        console.print(Padding(Text(line), (0, 0, 0, 2)))
    console.print()
    for (reason, cure), rows in grouped_blocks(plan).items():
        console.print(Text.assemble((Status.BLOCKED.value, _STYLE[Status.BLOCKED]), "  ", _names(rows)))
        console.print(Padding(Text(f"{reason}\n{cure}"), (0, 0, 1, 4)))
    console.print(Text(closing_line(plan), style="bold"))


def _table(plan: Plan) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    previous = ""
    for row in plan.rows:
        if row.target != previous and previous:
            table.add_section()
        target, kind, status, *rest = _cells(row)
        shown = "" if target == previous else target
        table.add_row(Text(shown), Text(kind), Text(status, style=_STYLE[row.status]), *map(Text, rest))
        previous = row.target
    return table
