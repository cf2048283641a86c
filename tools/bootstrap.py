"""A private nox, made from nothing but Python: what `python3 noxfile.py` does before nox can take over.

It makes a virtual environment under .cache/, installs locks/nox.txt into it with hashes required, and runs nox from
it. The environment is built beside its place and renamed into it when whole, so an interrupted run leaves nothing that
a later one would believe; its name carries the lock file's hash and the interpreter, so a new lock or a new Python
gets a new one.

Standard library only, and readable by Python 3.6. Exit codes are those of docs/exit-codes.md.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

TOOL_MISSING, NO_SPACE, NO_INDEX, INTERRUPTED = 4, 10, 13, 130
OLDEST_NOX = (2025, 2, 9)
LEFTOVER_SECONDS = 3600

# What sends Python or pip to another place than the environment that is being made.
ELSEWHERE = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")

NO_VENV = "This Python ({python}) cannot make virtual environments: its ensurepip module is missing."
NO_VENV_CURE = (
    "On Debian and Ubuntu install it with `apt-get install python3-venv` (for a Python that is not the system's, "
    "the package is named after it: python3.12-venv); or, if you have uv, run `uv run noxfile.py` instead."
)
NO_INDEX_SAYS = "The package index could not be reached, or does not have what locks/nox.txt asks for."
NO_INDEX_CURE = (
    "Check the network and try again; behind a mirror set PIP_INDEX_URL, behind a proxy HTTPS_PROXY, "
    "and with a certificate authority of your own PIP_CERT."
)
BAD_HASH = "A package that came from the package index is not the one that locks/nox.txt names."
BAD_HASH_CURE = (
    "Do not install it. If your mirror rebuilds packages, use one that does not; otherwise try again, and if it "
    "stays, report it as SECURITY.md says."
)
NO_WRITE = "{path} could not be written: {reason}."
NO_WRITE_CURE = "Make room there, or run as the user who owns the checkout."


class BootstrapError(Exception):
    """What happened, what to do about it, and the exit code."""

    def __init__(self, message, cure, code, details=()):
        super(BootstrapError, self).__init__(message)
        self.cure = cure
        self.code = code
        self.details = details


def main(root, arguments):
    """Run nox with these arguments; return an exit code if the place could not be taken by nox itself."""
    try:
        python = sys.executable if has_nox() else private_nox(root)
    except BootstrapError as error:
        return report(error)
    except OSError as error:
        path = error.filename or root
        return report(
            BootstrapError(NO_WRITE.format(path=path, reason=error.strerror), NO_WRITE_CURE, NO_SPACE)
        )
    except KeyboardInterrupt:
        say("interrupted; nothing half-made is left")
        return INTERRUPTED
    return hand_over([python, "-m", "nox", "-f", os.path.join(root, "noxfile.py"), *arguments])


def report(error):
    """Print the sentence, what is known, and the cure."""
    for line in [str(error)] + ["    " + detail for detail in error.details] + [error.cure]:
        sys.stderr.write(line + "\n")
    return error.code


def say(what):
    """One line of progress, in nox's own manner."""
    sys.stderr.write("bootstrap > {}\n".format(what))
    sys.stderr.flush()


def has_nox():
    """Whether this interpreter already has a nox that is new enough, as under `uv run noxfile.py`."""
    from importlib import metadata

    try:
        found = metadata.version("nox")
    except metadata.PackageNotFoundError:
        return False
    numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    return numbers >= OLDEST_NOX


def private_nox(root):
    """The Python of a whole private environment that has nox; made now if there is none."""
    lock = os.path.join(root, "locks", "nox.txt")
    home = os.path.join(root, ".cache", "bootstrap", key(lock))
    if not works(home):
        make(home, lock)
    return python_of(home)


def key(lock):
    """A name that changes with the lock file, the interpreter's version and its place."""
    digest = hashlib.sha256()
    with open(lock, "rb") as stream:
        digest.update(stream.read())
    digest.update(os.path.realpath(base_python()).encode("utf-8", "surrogateescape"))
    return "nox-py{}{}-{}".format(sys.version_info[0], sys.version_info[1], digest.hexdigest()[:12])


def base_python():
    """The interpreter below any virtual environment that this runs in."""
    return getattr(sys, "_base_executable", None) or sys.executable


def python_of(home):
    """Where a virtual environment has its interpreter."""
    windows = os.name == "nt"
    return os.path.join(home, "Scripts" if windows else "bin", "python.exe" if windows else "python")


def works(home):
    """Whether the environment is there and its interpreter still is: a system upgrade can take that away."""
    return os.access(python_of(home), os.X_OK)


def make(home, lock):
    """Build the environment beside its place and move it there."""
    require_ensurepip()
    place = os.path.dirname(home)
    os.makedirs(place, exist_ok=True)
    sweep(place)
    started = time.monotonic()
    beside = tempfile.mkdtemp(prefix="tmp-", dir=place)
    os.chmod(beside, 0o755)  # noqa: S103 - what root made in a shared checkout, others may run
    try:
        say("making a private nox in {} (once; delete it at will)".format(home))
        create(beside)
        say("installing locks/nox.txt, every hash checked")
        install(python_of(beside), lock)
        settle(beside, home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    say("ready after {:.0f} s".format(time.monotonic() - started))


def require_ensurepip():
    """Say which package is missing before anything is made; Debian ships venv without what it needs."""
    from importlib import util

    if util.find_spec("ensurepip") is None or util.find_spec("venv") is None:
        raise BootstrapError(NO_VENV.format(python=sys.executable), NO_VENV_CURE, TOOL_MISSING)


def create(beside):
    """Make the virtual environment, from the interpreter below the one that runs."""
    done = run([base_python(), "-m", "venv", beside])
    if done.returncode:
        raise BootstrapError(
            NO_VENV.format(python=sys.executable), NO_VENV_CURE, TOOL_MISSING, tail(done.stdout)
        )


def install(python, lock):
    """Install the lock file; the failures of a network and of a forged package are told apart."""
    options = ["--require-hashes", "--only-binary", ":all:", "--retries", "2", "--no-input", "--quiet"]
    options += ["--disable-pip-version-check", "--no-warn-script-location"]
    done = run([python, "-m", "pip", "install", *options, "-r", lock])
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stdout:
        raise BootstrapError(BAD_HASH, BAD_HASH_CURE, NO_INDEX, tail(done.stdout))
    if "No space left" in done.stdout:
        sentence = NO_WRITE.format(path=python, reason="no space left on device")
        raise BootstrapError(sentence, NO_WRITE_CURE, NO_SPACE, tail(done.stdout))
    raise BootstrapError(NO_INDEX_SAYS, NO_INDEX_CURE, NO_INDEX, tail(done.stdout))


def run(command):
    """Run quietly, keeping what was printed for a failure."""
    env = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    env["PIP_USER"] = "0"
    return subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )


def tail(text):
    """The last lines that say something."""
    return [line for line in text.splitlines() if line.strip()][-6:]


def settle(beside, home):
    """Rename into place; if another run was faster its environment is as good."""
    if os.path.lexists(home) and not works(home):
        shutil.rmtree(home, ignore_errors=True)
    try:
        os.rename(beside, home)
    except OSError:
        if not works(home):
            raise


def sweep(place):
    """Remove what a killed run left; a young one may belong to a run that is still going."""
    for name in os.listdir(place):
        path = os.path.join(place, name)
        if name.startswith("tmp-") and time.time() - os.path.getmtime(path) > LEFTOVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def hand_over(command):
    """Become nox; Windows cannot replace a process, so there it is a child."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)
