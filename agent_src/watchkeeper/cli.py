"""The entry point, and the only place that prints and exits.

Nothing is imported here but the version: `watchkeeper --version` is what a service manager, an updater and a smoke
test call, and it must not wait for an event loop. Everything else is imported once a command is known.
"""

from __future__ import annotations

import sys

from watchkeeper._version import __version__

VERSION_WORDS = (["--version"], ["version"])


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the code that errors.py documents."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in VERSION_WORDS:
        print(f"watchkeeper {__version__}")
        sys.exit(0)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    """Carry out a command that needs more than the version, and print what it answers."""
    import watchkeeper.commands
    from watchkeeper.errors import AgentError

    try:
        answer = watchkeeper.commands.execute(arguments)
    except AgentError as error:
        print(f"watchkeeper: {error}", file=sys.stderr)
        if error.advice:
            print(f"  {error.advice}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    if answer.text:
        print(answer.text, file=sys.stderr if answer.to_stderr else sys.stdout)
    return answer.exit_code
