#!/bin/sh
# Make the image in which cibuildwheel builds Linux wheels, from Debian packages and the repository's own locks:
#
#     tools/wheel_images/build.sh amd64|arm64 [IMAGE]
#
# IMAGE defaults to localhost/ferryman-wheels-ARCH. It looks to cibuildwheel like one of PyPA's manylinux images:
# /opt/python/cp311-cp311 with uv, build and auditwheel, and a C compiler that goes down to glibc 2.17. The compiler is the
# pinned zig, since Debian's own would name symbols of Debian's glibc.
#
# FERRYMAN_ENGINE is the engine's command line (default: podman, else docker). The mirror of apt, the package index and
# the certificates are the host's; none of them is written down here. Needs mmdebstrap, and root or subordinate ids; for
# another architecture also qemu-user-static and binfmt-support.
set -eu

arch=${1:-}
case $arch in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "usage: build.sh amd64|arm64 [IMAGE]" >&2; exit 2 ;;
esac
image=${2:-localhost/ferryman-wheels-$arch}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
suite=bookworm
packages=python3,python3-venv,libpython3-dev,ca-certificates,xz-utils,file

missing() { echo "build.sh: $1 is missing. $2" >&2; exit 4; }

command -v mmdebstrap >/dev/null || missing mmdebstrap "Install it: apt-get install mmdebstrap"
if [ -z "${FERRYMAN_ENGINE:-}" ]; then
  if command -v podman >/dev/null; then FERRYMAN_ENGINE=podman
  elif command -v docker >/dev/null; then FERRYMAN_ENGINE=docker
  else missing "a container engine" "Install podman or docker, or name one in FERRYMAN_ENGINE."; fi
fi
case $FERRYMAN_ENGINE in
  *docker) platform="--platform=linux/$arch" ;;
  *) platform="--arch=$arch --os=linux" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/in"

# The host's own sources. A foreign architecture gets the release alone: mirrors are often half way through the updates.
only='.*'; [ "$arch" = "$(dpkg --print-architecture)" ] || only="$suite"
apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' \
  | grep -E " ($only) " | sort -u > "$work/sources.list"
grep -q " $suite " "$work/sources.list" || missing "Debian's $suite among apt's sources" "The image is made of it."

# What pip and uv were told on the host, as far as it has a meaning elsewhere.
certificates=${SSL_CERT_FILE:-${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}
cp "$certificates" "$work/in/host-certificates.crt"
index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}}
{ echo '[global]'; echo 'cert = /etc/ssl/certs/ca-certificates.crt'; [ -z "$index" ] || echo "index-url = $index"; } > "$work/in/pip.conf"
{ [ -z "$index" ] || printf '[[index]]\nurl = "%s"\ndefault = true\n' "$index"; } > "$work/in/uv.toml"

sed -e "s/@TARGET@/$machine-linux-gnu.2.17/" "$here/cc" > "$work/in/cc"
chmod 755 "$work/in/cc"
cp "$here/setup.sh" "$root/locks/wheels.txt" "$root/build/ferryman_build/resources/locks/zig.txt" "$work/in/"

# mmdebstrap runs programs of the other architecture through binfmt; its own test of that wants arch-test.
mmdebstrap --variant=minbase --skip=check/qemu --architectures="$arch" --include="$packages" \
  --customize-hook="mkdir -p \"\$1\"/opt/ferryman && cp $work/in/* \"\$1\"/opt/ferryman/" \
  --customize-hook="chroot \"\$1\" sh /opt/ferryman/setup.sh $machine" \
  "$suite" - "$work/sources.list" > "$work/root.tar"
# shellcheck disable=SC2086 # both are several words
$FERRYMAN_ENGINE import $platform --change "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" \
  --change "ENV AUDITWHEEL_PLAT=manylinux2014_$machine" "$work/root.tar" "$image" >/dev/null
echo "$image"
