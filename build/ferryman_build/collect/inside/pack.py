"""Write a PyInstaller executable: bootloader + archive. With files it is a one-file program, without it starts a tree.

The archive is appended to the bootloader, which searches for it from the end of the file; PyInstaller itself uses
objcopy on Linux, which a machine without binutils does not have.

Request: {"kind": "tree"|"file", "scripts": [[name, path], …], "files": [[dest, path, type], …], "optimize": 0-2,
          "libpython": name, "contents": folder, "level": 1-9, "blobs": folder, "output": path}
"""

import hashlib
import json
import os
import shutil
import sys
import zlib

from PyInstaller import HOMEPATH, PLATFORM
from PyInstaller.archive import writers

NATIVE, DATA, LINK = "b", "x", "n"


class Writer(writers.CArchiveWriter):
    """Keeps each compressed file under the digest of its content, since most of them are those of the last build."""

    blobs = ""
    level = 6

    def _write_file(self, out_fp, src_name, dest_name, typecode, compress=False):
        with open(src_name, "rb") as file:
            content = file.read()
        if not compress:
            return self._write_blob(out_fp, content, dest_name, typecode)
        packed = self._packed(content)
        offset = out_fp.tell()
        out_fp.write(packed)
        return (offset, len(packed), len(content), 1, typecode, dest_name)

    def _packed(self, content):
        key = hashlib.sha256(content).hexdigest()
        path = os.path.join(self.blobs, key[:2], f"{key[2:40]}.z{self.level}")
        if os.path.exists(path):
            os.utime(path)  # its last use, for the sweep
            with open(path, "rb") as file:
                return file.read()
        packed = zlib.compress(content, self.level)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        draft = f"{path}.{os.getpid()}"
        with open(draft, "wb") as file:
            file.write(packed)
        os.replace(draft, path)
        return packed


def entries(request, empty_pyz):
    script_type = {0: "s", 1: "s1", 2: "s2"}[request["optimize"]]
    for name, path in request["scripts"]:
        yield name, path, True, script_type
    # The bootloader insists on an archive of modules, even if there is nothing in it.
    yield "PYZ.pyz", empty_pyz, False, "z"
    if request["kind"] == "tree":
        yield f"pyi-contents-directory {request['contents']}", "", False, "o"
    for dest, path, kind in sorted(request["files"]):
        yield dest, path, kind != LINK, kind


def main():
    with open(os.environ["FERRYMAN_REQUEST"], encoding="utf-8") as file:
        request = json.load(file)
    output = request["output"]
    empty_pyz, archive = f"{output}.pyz", f"{output}.pkg"
    writers.ZlibArchiveWriter(empty_pyz, [], code_dict={})
    Writer.blobs, Writer.level = request["blobs"], request["level"]
    Writer(archive, entries(request, empty_pyz), pylib_name=request["libpython"])
    bootloader = os.path.join(HOMEPATH, "PyInstaller", "bootloader", PLATFORM, "run")
    if sys.platform == "win32":
        bootloader += ".exe"
    with open(output, "wb") as whole:
        for part in (bootloader, archive):
            with open(part, "rb") as file:
                shutil.copyfileobj(file, whole)
    os.chmod(output, 0o755)
    os.remove(empty_pyz)
    os.remove(archive)


main()
