# shellcheck shell=bash
# Real Debian worlds as published, for `ezz install` in the lab. This file must not know ezz's own format.

# Prints the path of the world of the host's own release, without the suffix.
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

# The release of the world with inits: the first whose systemd mounts /tmp.
INITS_SUITE=trixie

# To be raised when a change to how that world is built must not be served from a cache.
INITS_RECIPE=1

inits_file() {
    printf '%s\n' "$LAB_CACHE/worlds/inits-$INITS_SUITE-$INITS_RECIPE.tar"
}

lab_world() {
    local base
    case ${1:-debian} in
        debian)
            base=$(world_base)
            [ -e "$base.sha256" ] || locked world world_build "$(lab_codename)" "$base"
            world_file
            ;;
        inits)
            base=$(inits_file)
            [ -e "$base" ] || locked world inits_build "$base"
            printf '%s\n' "$base"
            ;;
        services)
            base=$(services_directory)
            [ -e "$base" ] || locked services services_build "$base"
            printf '%s\n' "$base"
            ;;
        *) die "the lab makes these worlds: debian, inits, services" ;;
    esac
}

# Builds a small Debian whose init is systemd, with busybox, ping and, unpacked in /usr/lib/sysvinit, sysvinit.
inits_build() {
    local file=$1 mirror work path arguments=() packages=(systemd-sysv dbus busybox iputils-ping usr-is-merged)
    [ ! -e "$file" ] || return 0
    need mmdebstrap dpkg-deb
    mirror=$(system_mirror "$(lab_codename)")
    [ -n "$mirror" ] || die "this system's apt has no source for Debian"
    mkdir -p "$LAB_CACHE/worlds"
    work=$(mktemp -d "$LAB_CACHE/worlds/.tmp.XXXXXX")
    arguments=(--variant=essential --mode=auto --format=tar "--include=${packages[*]}" "--aptopt=Acquire::Retries \"3\"")
    # Never used in the guest, where every file has a small cost.
    for path in doc man locale zoneinfo; do
        arguments+=("--dpkgopt=path-exclude=/usr/share/$path/*")
    done
    # sysvinit-core and systemd-sysv cannot both be installed.
    # shellcheck disable=SC2016 # for the shell that mmdebstrap starts
    arguments+=(--customize-hook='set -e; mkdir "$1/usr/lib/sysvinit"; cd "$1/usr/lib/sysvinit"
        APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq sysvinit-core sysv-rc initscripts startpar
        for deb in *.deb; do dpkg-deb -x "$deb" .; rm "$deb"; done')
    say "making the Debian $INITS_SUITE world with inits by mmdebstrap (about half a minute)"
    if ! mmdebstrap "${arguments[@]}" "$INITS_SUITE" "$work/world.tar" "deb $mirror $INITS_SUITE main" \
        >"$work/log" 2>&1 </dev/null; then
        tail -n 20 "$work/log" >&2
        die "mmdebstrap failed; its log is $work/log"
    fi
    rm -f "$LAB_CACHE"/worlds/inits-*.tar
    mv -f "$work/world.tar" "$file"
    rm -rf "$work"
    say "world ready: $file"
}

world_build() {
    local suite=$1 base=$2 mirror security work arguments=() sources=()
    [ ! -e "$base.sha256" ] || return 0
    need mmdebstrap zstd xz sha256sum
    mirror=$(system_mirror "$suite")
    security=$(system_mirror "$suite-security")
    [ -n "$mirror" ] || die "this system's apt has no source for Debian $suite"
    mkdir -p "$LAB_CACHE/worlds"
    work=$(mktemp -d "$LAB_CACHE/worlds/.tmp.XXXXXX")
    sources=("deb $mirror $suite main")
    [ -z "$security" ] || sources+=("deb $security $suite-security main")
    # Only root can chroot; other users need the kernel's unprivileged user namespaces.
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
    (cd "$LAB_CACHE/worlds" && sha256sum "$(basename "$base")".tar{,.xz,.zst}) >"$work/sha256"
    mv -f "$work/sha256" "$base.sha256"
    rm -rf "$work"
    say "world ready: $base.tar, .tar.xz, .tar.zst"
}
