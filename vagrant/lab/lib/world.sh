# shellcheck shell=bash
# A real Debian world as published: what `ezz install` is given in the lab.
# Must not be here: anything about ezz's own format.

# The world of the host's own release, without the suffix.
world_base() {
    (
        # shellcheck disable=SC1091
        . /etc/os-release
        printf '%s\n' "$LAB_CACHE/worlds/debian-${VERSION_ID:-$VERSION_CODENAME}"
    )
}

world_file() {
    printf '%s.tar.zst\n' "$(world_base)"
}

lab_world() {
    local base
    [ "${1:-debian}" = debian ] || die "the lab makes one world: debian"
    base=$(world_base)
    if [ ! -e "$base.sha256" ] || [ ! -e "$base.hello.deb" ]; then
        locked world world_build "$(lab_codename)" "$base"
    fi
    world_file
}

world_build() {
    local suite=$1 base=$2 mirror security work arguments=() sources=()
    [ ! -e "$base.sha256" ] || [ ! -e "$base.hello.deb" ] || return 0
    need mmdebstrap zstd xz sha256sum
    mirror=$(system_mirror "$suite")
    security=$(system_mirror "$suite-security")
    [ -n "$mirror" ] || die "this system's apt has no source for Debian $suite"
    mkdir -p "$LAB_CACHE/worlds"
    work=$(mktemp -d "$LAB_CACHE/worlds/.tmp.XXXXXX")
    sources=("deb $mirror $suite main")
    [ -z "$security" ] || sources+=("deb $security $suite-security main")
    # Only root can chroot; the others need the kernel's unprivileged user namespaces.
    arguments=(--variant=minbase --mode=auto --format=tar "--aptopt=Acquire::Retries \"3\"")
    say "making the Debian $suite world with mmdebstrap (about half a minute)"
    if ! mmdebstrap "${arguments[@]}" "$suite" "$work/world.tar" "${sources[@]}" >"$work/log" 2>&1 </dev/null; then
        tail -n 20 "$work/log" >&2
        die "mmdebstrap failed; its log is $work/log"
    fi
    # Several blocks and frames, so that they can be decompressed in parallel.
    xz -T0 -1 --block-size=8MiB --stdout "$work/world.tar" >"$work/world.tar.xz"
    zstd -q -T0 -3 -o "$work/world.tar.zst" "$work/world.tar"
    local suffix
    for suffix in tar tar.xz tar.zst; do
        mv -f "$work/world.$suffix" "$base.$suffix"
    done
    # A package to install into a jail that has a package manager of its own.
    locked apt apt_refresh
    download "$work/package" hello
    mv -f "$work"/package/hello_*.deb "$base.hello.deb"
    (cd "$LAB_CACHE/worlds" && sha256sum "$(basename "$base")".tar{,.xz,.zst}) >"$work/sha256"
    mv -f "$work/sha256" "$base.sha256"
    rm -rf "$work"
    say "world ready: $base.tar, .tar.xz, .tar.zst"
}
