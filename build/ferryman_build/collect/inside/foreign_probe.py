# Run by the Python of a runner's place: what it is, as one line of JSON. "libraries" are the places where its shared
# library may be, best first; "magic" is what its bytecode begins with.
import importlib.util
import json
import os
import platform
import sys
import sysconfig

var = sysconfig.get_config_var
short = ".".join(map(str, sys.version_info[:2]))
multiarch = var("MULTIARCH") or ""
names = [var("INSTSONAME") or ""] if var("Py_ENABLE_SHARED") else []
names.append(f"libpython{short}.so.1.0")
folders = [
    var("LIBDIR") or "",
    f"{sys.base_prefix}/lib",
    f"{sys.base_prefix}/lib/{multiarch}",
    f"{sys.base_prefix}/lib64",
]
candidates = [
    os.path.join(folder, name)
    for folder in folders
    if folder
    for name in names
    if name.endswith((".so", ".0"))
]
print(
    json.dumps(
        {
            "version": platform.python_version(),
            "build": sys.version,
            "implementation": sys.implementation.name,
            "tag": sys.implementation.cache_tag,
            "magic": importlib.util.MAGIC_NUMBER.hex(),
            "windows": os.name == "nt",
            "prefix": sys.base_prefix,
            "library": next((os.path.realpath(path) for path in candidates if os.path.isfile(path)), ""),
        }
    )
)
