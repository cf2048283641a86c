# The beginning of every program's main script; a call of _ferryman_start and the entry point come behind it. It runs in
# __main__ before each start, so it imports nothing that the interpreter has not imported already.
import sys


def _ferryman_start(hooks):
    """Run the compiled runtime hooks at these paths; what multiprocessing has started ends here."""
    words = _ferryman_helper(sys.argv[1:])
    if "resource_tracker" not in words[:1]:  # it runs none of the program's code
        for path in hooks:
            _ferryman_hook(path)
    if words:
        sys.argv[:] = ["-c", *words[2:]]  # as the interpreter has it
        exec(words[1], {"sys": sys})  # noqa: S102  # as the interpreter does it
        sys.exit()
    if sys.argv[1:2] == ["--multiprocessing-fork"]:
        from multiprocessing.spawn import freeze_support

        freeze_support()  # a worker; it does not come back


def _ferryman_sbom(path):
    """Print what the program consists of; it does not come back."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        import os

        os._exit(141)  # as if the signal had ended it
    sys.exit()


def _ferryman_helper(words):
    """Of a command line with which multiprocessing starts a helper: its module, its statement, the rest; else [].

    It starts sys.executable as it would start an interpreter: options, -c, a statement, arguments.
    """
    place = 0
    while words[place : place + 1] not in ([], ["-c"]):
        if not words[place].startswith("-"):
            return []
        place += 2 if words[place] in ("-X", "-W") else 1
    statement = "".join(words[place + 1 : place + 2])
    for module in ("resource_tracker", "forkserver"):
        if statement.removeprefix("import sys; ").startswith(f"from multiprocessing.{module} import main"):
            return [module, *words[place + 1 :]]
    return []


def _ferryman_hook(path):
    """Run a hook as PyInstaller does, as a main script; its names are its own."""
    import marshal

    with open(path, "rb") as file:
        code = marshal.loads(file.read()[16:])  # noqa: S302
    module = type(sys)("__main__")
    module.__file__ = path
    exec(code, module.__dict__)  # noqa: S102  # it came with the program
