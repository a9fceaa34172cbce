# shellcheck shell=bash
# Builds and caches the User Mode Linux kernel with OpenZFS built in.
# Must not be here: how it is booted (boot.sh).

# The kernel series that both OpenZFS series support, in Debian stable and in its security archive.
LAB_LINUX=6.12

# Raised when a change to the build below must not be served from a cache.
LAB_KERNEL_RECIPE=1

kernel_link() {
    printf '%s\n' "$LAB_CACHE/kernels/$LAB_SERIES"
}

kernel_recipe() {
    { printf '%s\n' "$LAB_KERNEL_RECIPE" "$LAB_LINUX"; cat "$LAB_DIR/kernel.config"; } | sha256sum | cut -c1-12
}

kernel_is_current() {
    [ -x "$(kernel_link)/linux" ] && [ "$(cat "$(kernel_link)/recipe" 2>/dev/null)" = "$(kernel_recipe)" ]
}

# lab_kernel [--update]: the kernel of $LAB_SERIES is in the cache afterwards. Offline and quick when
# there is one for this configuration; --update asks the archive for newer versions.
lab_kernel() {
    if [ "${1:-}" != --update ] && kernel_is_current; then
        return 0
    fi
    locked "kernel-$LAB_SERIES" kernel_build "${1:-}"
}

kernel_build() {
    local zfs linux key work
    [ "${1:-}" != --update ] && kernel_is_current && return 0
    need gcc make flex bison bc autoconf automake libtoolize cpio xz perl
    locked apt apt_refresh "${1:+--force}"
    zfs=$(newest zfs-dkms "$LAB_SERIES.*") || die "no zfs-dkms $LAB_SERIES in the suites ${LAB_SUITES[*]}"
    linux=$(newest "linux-source-$LAB_LINUX" "*") || die "no linux-source-$LAB_LINUX in the suites ${LAB_SUITES[*]}"
    key=$LAB_LINUX-zfs-${zfs%%-*}-$(printf '%s %s %s' "$linux" "$zfs" "$(kernel_recipe)" | sha256sum | cut -c1-12)
    if [ ! -x "$LAB_CACHE/kernels/$key/linux" ]; then
        mkdir -p "$LAB_CACHE/kernels"
        # A build that was killed leaves its directory; it is ours, and we hold the lock.
        rm -rf "$LAB_CACHE/kernels/.tmp.$LAB_SERIES."*
        work=$(mktemp -d "$LAB_CACHE/kernels/.tmp.$LAB_SERIES.XXXXXX")
        say "building Linux $linux with OpenZFS $zfs (3 to 6 minutes on two cores; log: $work/log)"
        # As a job of its own, because `set -e` does not hold inside a condition.
        kernel_compile "$work" "$linux" "$zfs" >"$work/log" 2>&1 &
        if ! wait $!; then
            tail -n 30 "$work/log" >&2
            die "the kernel could not be built; the whole log is $work/log"
        fi
        mkdir "$work/out"
        mv "$work/src/linux" "$work/src/.config" "$work/log" "$work/out/"
        mv "$work/out/.config" "$work/out/config"
        kernel_recipe >"$work/out/recipe"
        printf 'linux %s\nzfs %s\n' "$linux" "$zfs" >"$work/out/versions"
        rm -rf "${LAB_CACHE:?}/kernels/$key"
        mv "$work/out" "$LAB_CACHE/kernels/$key"
        rm -rf "$work"
    fi
    publish_link "$key" "$(kernel_link)"
    say "kernel ready: $(kernel_link)/linux (Linux $linux, OpenZFS $zfs)"
}

kernel_compile() (
    set -ex
    work=$1 linux=$2 zfs=$3
    # The user's own make (-j, jobserver) must not leak into this one; nor may a locale.
    unset MAKEFLAGS MFLAGS MAKELEVEL
    export LC_ALL=C ARCH=um
    download "$work/debs" "linux-source-$LAB_LINUX=$linux" "zfs-dkms=$zfs"
    mkdir "$work/tree" "$work/src" "$work/zfs"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb -x "$deb" "$work/tree"
    done
    tar -xf "$work/tree/usr/src/linux-source-$LAB_LINUX.tar.xz" -C "$work/src" --strip-components=1
    cp -a "$work"/tree/usr/src/zfs-*/. "$work/zfs"
    rm -rf "$work/tree" "$work/debs"

    cd "$work/src"
    make defconfig
    kernel_options
    make olddefconfig
    make -j"$(nproc)" prepare modules_prepare

    cd "$work/zfs"
    ./configure --enable-linux-builtin --with-linux="$work/src" --with-linux-obj="$work/src" --with-config=kernel
    ./copy-builtin "$work/src"

    cd "$work/src"
    if [ ! -e include/zfs/zfs_gitrev.h ]; then
        printf '#define ZFS_META_GITREV "%s"\n' "$zfs" >include/zfs/zfs_gitrev.h
    fi
    scripts/config -e ZFS
    make olddefconfig
    grep -q '^CONFIG_ZFS=y' .config
    make -j"$(nproc)" linux
    strip -g linux
)

# Applies kernel.config in the current kernel tree.
kernel_options() {
    local line args=()
    while read -r line; do
        case $line in
            '' | '#'*) ;;
            +*) args+=(-e "${line#+}") ;;
            -*) args+=(-d "${line#-}") ;;
            *=*) args+=(--set-val "${line%%=*}" "${line#*=}") ;;
        esac
    done <"$LAB_DIR/kernel.config"
    scripts/config "${args[@]}"
}

# The guest's process 1, built once per source.
guest_init() {
    printf '%s\n' "$LAB_CACHE/init/$(hash_of "$LAB_DIR/guest/init.c")"
}

lab_init() {
    local init
    init=$(guest_init)
    [ ! -x "$init" ] || return 0
    need gcc
    mkdir -p "$LAB_CACHE/init"
    gcc -O2 -Wall -static -o "$init.$$" "$LAB_DIR/guest/init.c" || die "cannot build $LAB_DIR/guest/init.c"
    mv -f "$init.$$" "$init"
}
