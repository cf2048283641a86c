"""Compile modules to bytecode files whose content depends on nothing but source, shown name and optimisation level.

Each module is compiled in a child forked from this process, which itself compiles nothing: marshal writes a
back-reference only for objects that something else refers to as well, and interned strings of modules compiled
earlier would count (python/cpython#78274). Where there is no fork (Windows), modules are compiled in one process in
the order of the request.

Request: {"optimize": 0-2, "modules": [[source, shown name, destination], …]}; destinations must not exist.
"""

import importlib.util
import json
import marshal
import os
import sys
import traceback
from importlib import _bootstrap_external as external

# A package may ship files for another Python (async generators of the future, Python 2 leftovers) or no Python at all;
# for null bytes Python 3.11 has a ValueError.
NOT_PYTHON = (SyntaxError, ValueError)


def compile_one(source, shown, destination, optimize):
    with open(source, "rb") as file:
        content = file.read()
    code = compile(content, shown, "exec", dont_inherit=True, optimize=optimize)
    # "Unchecked hash" (PEP 552): the loader trusts the file and never looks for the source.
    packed = external._code_to_hash_pyc(code, importlib.util.source_hash(content), False)
    draft = f"{destination}.{os.getpid()}.draft"
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with open(draft, "wb") as file:
        file.write(packed)
    os.chmod(draft, 0o644)
    os.replace(draft, destination)


def compile_forked(jobs, optimize):
    for job in jobs:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                compile_one(*job, optimize)
                status = 0
            except NOT_PYTHON as error:
                sys.stderr.write(f"cannot compile {job[0]}: {error}\n")
                status = 3
            except BaseException:  # noqa: BLE001  # whatever it is, its parent only sees an exit code
                traceback.print_exc()  # the child ends without the interpreter's own last words
            finally:
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, 3):
            raise SystemExit(status if status > 0 else 1)


def compile_in_turn(jobs, optimize):
    for job in jobs:
        try:
            compile_one(*job, optimize)
        except NOT_PYTHON as error:
            sys.stderr.write(f"cannot compile {job[0]}: {error}\n")


def main():
    with open(os.environ["FERRYMAN_REQUEST"], encoding="utf-8") as file:
        request = json.load(file)
    marshal.dumps(None)  # loaded before the first fork, so that every child starts from the same state
    (compile_forked if hasattr(os, "fork") else compile_in_turn)(request["modules"], request["optimize"])


main()
