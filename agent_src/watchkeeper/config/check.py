"""Whether configurations are right: what `check-config` says, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from watchkeeper.config.document import Problem, render_path
from watchkeeper.config.load import Loaded, load_file
from watchkeeper.config.references import References
from watchkeeper.errors import AgentError, ConfigInvalidError, ConfigUnreadableError, ExitCode


@dataclass
class Report:
    """What was found in one or several files and folders; each is a configuration of its own."""

    loaded: list[Loaded] = field(default_factory=list)
    errors: list[AgentError] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """That of the first that is not right."""
        return self.errors[0].exit_code if self.errors else ExitCode.OK

    @property
    def services(self) -> int:
        return sum(len(each.config.services) for each in self.loaded)

    @property
    def checks(self) -> int:
        return sum(each.config.check_count for each in self.loaded)

    def text(self) -> str:
        """One line when all is right."""
        counts = [_counted(self.services, "service"), _counted(self.checks, "check")]
        files = sum(len(each.fragments) for each in self.loaded)
        if files > 1:
            counts.insert(0, _counted(files, "file"))
        sources = sum(len(each.config.sources) for each in self.loaded)
        if sources:
            counts.append(f"{_counted(sources, 'source')} (not asked)")
        return f"ok: {', '.join(counts)}"

    def plain(self) -> dict[str, Any]:
        """As an object; each finding has file, line, column, path and message."""
        if not self.errors:
            return {"ok": True, "services": self.services, "checks": self.checks}
        lines = [line for error in self.errors for line in _lines(error)]
        findings = [each for error in self.errors for each in _findings(error)]
        return {"ok": False, "problems": lines, "findings": findings}

    def error(self) -> AgentError:
        """All that is wrong as one error, for people."""
        if len(self.errors) == 1:
            return self.errors[0]
        wrong = [error for error in self.errors if isinstance(error, ConfigInvalidError)]
        lines = tuple(line for error in self.errors for line in _lines(error))
        if wrong and wrong[0] is self.errors[0]:
            return ConfigInvalidError("the configuration", lines)
        return ConfigUnreadableError("\n".join(lines), self.errors[0].advice)


def check(paths: Sequence[str], *, secrets: bool = True) -> Report:
    """Look at files and folders.

    Args:
        paths: each is a whole configuration.
        secrets: whether references to secrets are resolved; otherwise only their form is looked at.
    """
    report = Report()
    for path in paths:
        try:
            report.loaded.append(load_file(path, References(resolve=secrets)))
        except (ConfigInvalidError, ConfigUnreadableError) as error:
            report.errors.append(error)
    return report


def _lines(error: AgentError) -> tuple[str, ...]:
    return error.problems if isinstance(error, ConfigInvalidError) else (str(error),)


def _findings(error: AgentError) -> list[dict[str, Any]]:
    if not isinstance(error, ConfigInvalidError):
        return [{"file": None, "line": None, "column": None, "path": "", "message": str(error)}]
    return [_finding(problem) for problem in error.findings]


def _finding(problem: Problem) -> dict[str, Any]:
    place = problem.position
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "path": render_path(problem.path),
        "message": problem.message,
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
