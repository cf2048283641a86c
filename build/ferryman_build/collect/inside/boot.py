# The first script of a program that PyInstaller's bootloader starts: what PyInstaller's own bootstrap does, less what
# only its module archive needs (a tree has plain files, which CPython finds by itself). It imports nothing but os,
# which most programs import anyway; the hooks run behind it, then start.py with the program.
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


_restore_environment()
del _restore_environment
