# The first script of every program: what PyInstaller's own bootstrap does, less what only its module archive needs
# (a tree has plain files, which CPython finds by itself). It runs in __main__ before each start, so it imports nothing
# that the interpreter has not imported already.
import sys

sys.frozen = True


def _restore_environment():
    """Give children the environment that the program was started with.

    The bootloader starts itself again with LD_LIBRARY_PATH changed; the loader has read it by now, and a child that
    inherits it loads our libssl (pyinstaller#2237).
    """
    import os

    for name in ("LD_LIBRARY_PATH", "LIBPATH"):
        before = os.environ.pop(f"{name}_ORIG", None)
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
    if "_PYI_APPLICATION_HOME_DIR" not in os.environ:
        # A tree: the bootloader's notes to itself are of no use to anybody. A one-file program keeps them, so that a
        # worker of multiprocessing uses the files that are unpacked already.
        for name in [name for name in os.environ if name.startswith("_PYI_")]:
            del os.environ[name]


def _is_multiprocessing_helper(arguments):
    return "--multiprocessing-fork" in arguments or (
        "-c" in arguments and any("from multiprocessing." in argument for argument in arguments)
    )


_restore_environment()
if _is_multiprocessing_helper(sys.argv[1:]):
    import os

    for _hook in ("pyi_rth_multiprocessing",):
        _path = os.path.join(sys._MEIPASS, "_ferryman", f"{_hook}.pyc")
        if os.path.exists(_path):
            import importlib.util

            _spec = importlib.util.spec_from_file_location(_hook, _path)
            _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
    import multiprocessing

    multiprocessing.freeze_support()
del _restore_environment, _is_multiprocessing_helper
