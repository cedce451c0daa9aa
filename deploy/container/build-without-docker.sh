#!/bin/sh
# Builds and runs the image where neither a Docker engine nor an image registry can be reached.
#
#   PYTHON_HOME=/path/to/a/cpython-3.13 deploy/container/build-without-docker.sh
#   CONTAINER_TESTS=1 make test
#
# Needs root and the Debian packages buildah, podman, debootstrap, runc, netavark, aardvark-dns, iptables
# and uidmap. The Dockerfile is built as it is; only its base is stood in for: a minimal Debian from
# debootstrap with the given Python under /usr/local, as the official image has it. What such a build shows
# holds for the files above the base. The base itself, and so the total size, is another one.
#
# Makes:  localhost/flashgate:test, localhost/flashgate-demo:test, localhost/standin/python:3.13, and for the
#         compose file localhost/standin/valkey:8 and localhost/standin/prometheus:2 (none for Grafana)
#         $CONTAINER_DIR/env to be sourced before podman or buildah are called by hand
#
#   GATEWAY_IMAGE=localhost/flashgate:test DEMO_IMAGE=localhost/flashgate-demo:test \
#   STORE_IMAGE=localhost/standin/valkey:8 PROMETHEUS_IMAGE=localhost/standin/prometheus:2 podman-compose up -d --no-build gateway prometheus
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
project=$(dirname -- "$(dirname -- "$here")")
dir=${CONTAINER_DIR:-/var/tmp/flashgate-containers}
suite=${DEBIAN_SUITE:-trixie}

missing=
for tool in buildah podman debootstrap runc; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || { echo "not installed:$missing" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "debootstrap and chroot need root" >&2; exit 2; }

mkdir -p "$dir/storage" "$dir/run"

# buildah and podman remember the driver of their first call, so both get the same files from the start.
cat >"$dir/storage.conf" <<CONF
[storage]
driver = "${STORAGE_DRIVER:-overlay}"
graphroot = "$dir/storage"
runroot = "$dir/run"
CONF
cat >"$dir/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
CONF
cat >"$dir/env" <<CONF
export CONTAINERS_STORAGE_CONF="$dir/storage.conf"
export CONTAINERS_CONF="$dir/containers.conf"
CONF
. "$dir/env"

# A file system as an image; what follows are options of buildah config.
commit() {
    rootfs=$1 image=$2
    shift 2
    container=$(buildah from scratch)
    buildah add -q "$container" "$rootfs" / >/dev/null
    [ $# = 0 ] || buildah config "$@" "$container"
    buildah commit -q --rm "$container" "$image" >/dev/null
    echo "made $image"
}

debian() {
    [ -e "$dir/debian-$suite/.complete" ] && return
    rm -rf "$dir/debian-$suite"
    debootstrap --variant=minbase "$suite" "$dir/debian-$suite" >"$dir/debootstrap.log"
    # With this machine's authorities, so that a proxy which inspects traffic is trusted here and only here.
    mkdir -p "$dir/debian-$suite/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$dir/debian-$suite/etc/ssl/certs/"
    rm -rf "$dir/debian-$suite"/var/cache/apt/archives/*.deb
    touch "$dir/debian-$suite/.complete"
}

install_packages() {
    rootfs=$1
    shift
    DEBIAN_FRONTEND=noninteractive chroot "$rootfs" apt-get install -qq -y --no-install-recommends "$@" >"$dir/apt.log" 2>&1
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
}

python_image() {
    buildah inspect --type image localhost/standin/python:3.13 >/dev/null 2>&1 && return
    : "${PYTHON_HOME:?the folder of a CPython 3.13, such as pyenv builds it}"
    debian
    rootfs=$dir/python
    rm -rf "$rootfs"
    cp -a "$dir/debian-$suite" "$rootfs"
    install_packages "$rootfs" libssl3t64 libffi8 libsqlite3-0 zlib1g liblzma5 libbz2-1.0 libreadline8t64
    cp -a "$PYTHON_HOME"/bin/python3* "$rootfs/usr/local/bin/"
    cp -a "$PYTHON_HOME"/lib/libpython3* "$rootfs/usr/local/lib/"
    cp -a "$PYTHON_HOME"/lib/python3.13 "$rootfs/usr/local/lib/"
    # As in the official image: no tests, no byte code.
    rm -rf "$rootfs"/usr/local/lib/python3.13/test "$rootfs"/usr/local/lib/python3.13/site-packages/*.pth
    find "$rootfs/usr/local/lib/python3.13" -name __pycache__ -prune -exec rm -rf {} +
    ln -sf python3 "$rootfs/usr/local/bin/python"
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$rootfs/etc/pip.conf"
    chroot "$rootfs" ldconfig
    commit "$rootfs" localhost/standin/python:3.13 --cmd python3 --env PATH=/usr/local/bin:/usr/bin:/bin
    rm -rf "$rootfs"
}

valkey_image() {
    buildah inspect --type image localhost/standin/valkey:8 >/dev/null 2>&1 && return
    debian
    rootfs=$dir/valkey
    rm -rf "$rootfs"
    cp -a "$dir/debian-$suite" "$rootfs"
    install_packages "$rootfs" valkey-server valkey-tools
    mkdir -p "$rootfs/data"
    chmod 0777 "$rootfs/data"
    commit "$rootfs" localhost/standin/valkey:8 --cmd valkey-server --workingdir /data
    rm -rf "$rootfs"
}

prometheus_image() {
    buildah inspect --type image localhost/standin/prometheus:2 >/dev/null 2>&1 && return
    debian
    rootfs=$dir/prometheus
    rm -rf "$rootfs"
    cp -a "$dir/debian-$suite" "$rootfs"
    install_packages "$rootfs" prometheus
    mkdir -p "$rootfs/prometheus"
    chmod 0777 "$rootfs/prometheus"
    commit "$rootfs" localhost/standin/prometheus:2 --entrypoint '["/usr/bin/prometheus"]' --user 65534:65534
    rm -rf "$rootfs"
}

python_image
valkey_image
prometheus_image
started=$(date +%s)
build() {
    buildah build --pull=never --format docker --isolation chroot --layers "$@" \
    --build-arg PYTHON_IMAGE=localhost/standin/python:3.13 \
    --build-arg VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' "$project/pyproject.toml")" \
    --build-arg REVISION="$(git -C "$project" rev-parse HEAD 2>/dev/null || echo unknown)" \
    --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    "$project"
}
build -t localhost/flashgate:test
build --target demo -t localhost/flashgate-demo:test
echo "built localhost/flashgate:test and localhost/flashgate-demo:test in $(($(date +%s) - started)) s"
buildah images --format '{{.Name}}:{{.Tag}} {{.Size}}'
