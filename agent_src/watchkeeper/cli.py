"""The entry point, and the only place that prints and exits.

Nothing is imported here but the version: `watchkeeper --version` is what a service manager, an updater and a smoke
test call, and it must not wait for an event loop. Everything else is imported once a command is known.
"""

from __future__ import annotations

import sys

from watchkeeper._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchkeeper.errors import AgentError

VERSION_WORDS = (["--version"], ["version"])


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the code that errors.py documents."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in VERSION_WORDS:
        print(f"watchkeeper {__version__}")
        sys.exit(0)
    if arguments[:1] == ["service-run"]:  # Windows' service manager waits, and not for long
        from watchkeeper.life.windows_service import main as serve

        sys.exit(serve(arguments[1:]))
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    """Carry out a command that needs more than the version, and print what it answers."""
    _open_streams()
    import watchkeeper.commands
    from watchkeeper.errors import AgentError

    try:
        answer = watchkeeper.commands.execute(arguments)
        for line in answer.lines or ():
            print(line, flush=True)
        if answer.text:
            print(answer.text, file=sys.stderr if answer.to_stderr else sys.stdout)
        sys.stdout.flush()
    except AgentError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _reader_has_gone()
    except OSError as error:
        from watchkeeper.life.resources import exhausted

        return _complain(exhausted(error))
    except Exception:
        trace = _without_secrets()
        if not trace:
            raise
        sys.stderr.write(trace)
        return 1
    return answer.exit_code


def _open_streams() -> None:
    """Whoever starts this may have closed them: what is opened next would take their numbers, a socket for instance.

    What the output cannot say in its encoding is written as JSON's escape, which is right in the answers to --json too.
    """
    import codecs
    import os

    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
    if hasattr(sys.stdout, "reconfigure"):
        codecs.register_error("watchkeeper", _escaped)
        sys.stdout.reconfigure(errors="watchkeeper")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    raw = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{raw[at : at + 4]}" for at in range(0, len(raw), 4)), error.end


def _complain(error: AgentError) -> int:
    """One sentence, and what to do about it."""
    from watchkeeper import redact

    print(f"watchkeeper: {redact.text(str(error))}", file=sys.stderr)
    if error.advice:
        print(f"  {error.advice}", file=sys.stderr)
    return error.exit_code


def _without_secrets() -> str:
    """The traceback of a defect, when Python's own would say a secret; else nothing."""
    import traceback

    from watchkeeper import redact

    trace = traceback.format_exc()
    return redact.text(trace) if redact.found(trace) else ""


def _reader_has_gone() -> int:
    """`watchkeeper events | head`: who reads has enough. Python would complain once more when it flushes at its end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
