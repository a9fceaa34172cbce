#!/bin/bash
# A Debian machine with OpenZFS as a module, which the lab's kernel does not have. This script runs as root on the
# machine itself, which may be modified without care. vagrant/machines/run calls it in this order, and reboots after
# each of the first two:
#
#   debian.sh install    packages; the source, /tmp/ezz.tar, is unpacked in /usr/src/ezz
#   debian.sh first      ezz is built and installed, the demonstration runs on a pool on the empty disk, and jails
#                        are created that the boot should start
#   debian.sh booted     checks what should have started by itself
#   debian.sh tests      the lab's tests, one after the other, by `runner` beside this file
#   debian.sh disk, sources DIRECTORY    parts of this script, for the tests
#
# EZZ_VM_ZFS=2.4 installs that series from backports, where the release itself has an older one.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
source=/usr/src/ezz
ezz=/usr/local/sbin/ezz

say() { printf '== %s\n' "$*"; }
stop() {
    printf 'debian.sh: %s\n' "$*" >&2
    exit 2
}

# Prints the only empty disk: it has no partitions and no signature of a file system.
disk() {
    local name type found=()
    while read -r name type; do
        case $type/$(basename "$name") in
            disk/zram* | disk/fd* | disk/nbd* | disk/ram*) continue ;;
            disk/*) ;;
            *) continue ;;
        esac
        if [ "$(lsblk -nro NAME "$name" | wc -l)" -eq 1 ] && [ -z "$(wipefs --noheadings "$name")" ]; then
            found+=("$name")
        fi
    done < <(lsblk -dnpro NAME,TYPE)
    [ ${#found[@]} -eq 1 ] || stop "one empty disk is wanted for the pool, there are ${#found[@]}: ${found[*]:-none}"
    printf '%s\n' "${found[0]}"
}

# Adds sources that the system may lack: contrib, which has OpenZFS, and backports, from the archive of the system's own
# packages. Only packages of OpenZFS's source package are taken from backports, and only on request.
sources() {
    local etc=$1 codename archive keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt's own variables
    archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$codename" '$1 == release { print $2; exit }')
    [ -n "$archive" ] || stop "this system's apt has no source for $codename"
    mkdir -p "$etc/sources.list.d" "$etc/preferences.d"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: contrib\nSigned-By: %s\n\n' \
        "$archive" "$codename" "$keyring" >"$etc/sources.list.d/ezz.sources"
    printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main contrib\nSigned-By: %s\n' \
        "$archive" "$codename" "$keyring" >>"$etc/sources.list.d/ezz.sources"
    rm -f "$etc/preferences.d/ezz"
    [ -z "${EZZ_VM_ZFS:-}" ] || printf 'Package: src:zfs-linux\nPin: version %s.*\nPin-Priority: 990\n' \
        "$EZZ_VM_ZFS" >"$etc/preferences.d/ezz"
}

candidate() { apt-cache policy "$1" | awk '$1 == "Candidate:" { print $2 }'; }

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    # apt knows an archive by its lists, which boxes do not contain.
    apt-get update -q
    sources /etc/apt
    apt-get update -q
    # The release's own OpenZFS is too old.
    if [ -z "${EZZ_VM_ZFS:-}" ] && dpkg --compare-versions "$(candidate zfs-dkms)" lt 2.3; then
        EZZ_VM_ZFS=2.3 sources /etc/apt
    fi
    # The newest kernel of the release and its headers; the archive may no longer have the headers of an older kernel.
    apt-get install -yq --no-install-recommends linux-image-amd64 linux-headers-amd64 \
        dkms build-essential pkg-config git sudo make iproute2 hostname util-linux
    apt-get install -yq --no-install-recommends zfs-dkms zfsutils-linux libzfslinux-dev
    # crun, conmon, catatonit and the seccomp profile; mmdebstrap and compressors for the lab's world.
    apt-get install -yq --no-install-recommends crun conmon catatonit golang-github-containers-common \
        mmdebstrap zstd xz-utils python3 openssl
    ls /lib/modules/*/updates/dkms/zfs.ko* || stop "OpenZFS was not built; see /var/lib/dkms/zfs"
    [ ! -e /tmp/ezz.tar ] || { mkdir -p "$source" && tar -xf /tmp/ezz.tar -C "$source"; }
}

failed=0
check() {
    local what=$1
    shift
    if "$@"; then printf 'ok      %s\n' "$what"; else
        failed=$((failed + 1))
        printf 'not ok  %s: %s\n' "$what" "$*"
    fi
}
is() { [ "$("${@:2}")" = "$1" ]; }
running() { "$ezz" list --json | sed -n 's/^.*"jail":"\([^"]*\)".*"state":"running".*$/\1/p' | sort | tr '\n' ' '; }
started() { [ "$(running)" = 'db web ' ]; }

first() {
    local pool world
    modprobe zfs
    uname -a
    zfs version
    pool=$(disk)
    cd "$source"
    vagrant/setup build
    make release
    make install
    world=$(vagrant/lab/lab world services)/debian-12.tar
    say 'the demonstration, on a disk'
    zpool create -f -O mountpoint=none -O acltype=posix -O xattr=sa -O atime=off tank "$pool"
    vagrant/lab/demo.sh "$ezz" "$world"
    say 'jails that start at boot'
    "$ezz" create web db --start
    systemctl enable ezz
}

booted() {
    local waited=0
    say 'after a reboot'
    until started || [ $waited -ge 120 ]; do
        sleep 2
        waited=$((waited + 2))
    done
    check 'the jails have started by themselves' is 'db web ' running
    check 'by their unit' systemctl is-active --quiet ezz
    check 'a command runs in one' "$ezz" exec web -- test -r /etc/os-release
    check 'doctor finds nothing to mend' "$ezz" doctor
    check 'the unit stops them' systemctl stop ezz
    check 'none runs' is '' running
    check 'they go' "$ezz" delete web db --yes
    systemctl disable --quiet ezz
    zpool destroy tank
    # The tests must find a machine without ezz.
    make -C "$source" uninstall
    [ $failed -eq 0 ]
}

tests() {
    local world
    cd "$source"
    EZZ_LAB_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ezz-lab
    export EZZ_LAB_CACHE PATH=$PATH:$EZZ_LAB_CACHE/tools/bin CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$here/runner
    set -- --profile lab --test-threads 1 --workspace --features lab \
        -E 'kind(test) & (binary(lab) | package(ezz-zfs)) & not test(/^outside::/)' "$@"
    cargo nextest run --no-run "$@"
    world=$(vagrant/lab/lab world)
    vagrant/lab/lab world inits
    vagrant/lab/lab world services
    say 'the tests of the lab that cut no power'
    "$here/runner" --site "$world" "$source/target/debug/ezz" "$source/tests/lab/golden"
    cargo nextest run "$@"
}

command=${1:-}
shift || true
case $command in
    install) install_packages ;;
    disk | first | booted) "$command" ;;
    sources | tests) "$command" "$@" ;;
    *) stop "usage: debian.sh install|first|booted|tests|disk|sources DIRECTORY" ;;
esac
