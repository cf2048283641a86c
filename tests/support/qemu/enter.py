"""Start one program inside a root filesystem: python enter.py REQUEST, below `unshare --mount`.

It ends by becoming that program, so that the process that was started is the program: its PID, its exit code and its
signals are seen as on a machine of its own. A script: it imports nothing of ours.
"""

import json
import os
import subprocess
import sys


def mount(words):
    subprocess.run(["mount", *words], check=True, stdin=subprocess.DEVNULL)


def main():
    request = json.loads(sys.argv[1])
    root = request["root"]
    mount(["--make-rprivate", "/"])
    mount(["-t", "proc", "proc", f"{root}/proc"])
    mount(["-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/dev/shm"])
    for words in request["mounts"]:
        mount([word.replace("{root}", root) for word in words])
    os.chroot(root)
    os.chdir(request["cwd"])
    if request["user"]:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    os.execve(request["program"], request["words"], request["env"])


main()
