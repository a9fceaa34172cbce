# shellcheck shell=bash
# Builds and caches the User Mode Linux kernel with OpenZFS built in.
# This file must not know how the kernel is booted (boot.sh).

# To be raised when a change to the build below must not be served from a cache.
LAB_KERNEL_RECIPE=1

# Prints the Linux series for an OpenZFS series, best first. Both 2.3 and 2.4 support Linux up to 7.2 (META), which can
# run the guest's processes by seccomp instead of ptrace, twice as fast. The archive keeps a series in testing for some
# months, and 6.12 as long as Debian 13. 2.1 supports no series later than 6.2, and Debian 12 has 6.1.
kernel_linux() {
    case $LAB_SERIES in
        2.1) printf '6.1\n' ;;
        *) printf '7.2 6.12\n' ;;
    esac
}

# Prints the first of them that the archive has, and its newest version.
kernel_source() {
    local series version
    for series in $(kernel_linux); do
        version=$(newest "linux-source-$series" "*") || continue
        printf '%s %s\n' "$series" "$version"
        return
    done
    return 1
}

kernel_link() {
    printf '%s\n' "$LAB_CACHE/kernels/$LAB_SERIES"
}

kernel_recipe() {
    { printf '%s\n' "$LAB_KERNEL_RECIPE" "$(kernel_linux)"; cat "$LAB_DIR/kernel.config"; } | sha256sum | cut -c1-12
}

kernel_is_current() {
    [ -x "$(kernel_link)/linux" ] && [ "$(cat "$(kernel_link)/recipe" 2>/dev/null)" = "$(kernel_recipe)" ]
}

# lab_kernel [--update] [SERIES...]: builds the kernels of these series, or of $LAB_SERIES, unless they are in the
# cache. It is fast and works offline if they exist for this configuration; --update asks the archive for newer
# versions. Missing kernels are built one after the other, because each build uses all processors, and in one tree: for
# the second, only OpenZFS has to be compiled.
lab_kernel() {
    local update='' missing=() LAB_SERIES=$LAB_SERIES
    if [ "${1:-}" = --update ]; then
        update=--update
        shift
    fi
    for LAB_SERIES in "${@:-$LAB_SERIES}"; do
        [ -z "$update" ] && kernel_is_current || missing+=("$LAB_SERIES")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    locked kernel kernel_build "$update" "${missing[@]}"
}

kernel_build() {
    local update=$1 work='' tree='' linux zfs key series same recipe
    local -A linuxes=() modules=()
    shift
    # The recipe at this moment: a build takes minutes, in which the files may be edited.
    recipe=$(kernel_recipe)
    for LAB_SERIES in "$@"; do
        [ -z "$update" ] && kernel_is_current && continue
        need gcc make flex bison bc autoconf automake libtoolize cpio xz perl
        [ ${#modules[@]} -gt 0 ] || locked apt apt_refresh "${update:+--force}"
        zfs=$(newest zfs-dkms "$LAB_SERIES.*") || die "no zfs-dkms $LAB_SERIES in the suites ${LAB_SUITES[*]}"
        linux=$(kernel_source) || die "no linux-source of $(kernel_linux) in the suites ${LAB_SUITES[*]}"
        modules[$LAB_SERIES]=$zfs linuxes[$LAB_SERIES]=$linux
    done
    for LAB_SERIES in "$@"; do
        zfs=${modules[$LAB_SERIES]:-} linux=${linuxes[$LAB_SERIES]:-}
        [ -n "$zfs" ] || continue
        key=${linux%% *}-zfs-${zfs%%-*}-$(printf '%s %s %s' "$linux" "$zfs" "$recipe" | sha256sum | cut -c1-12)
        if [ ! -x "$LAB_CACHE/kernels/$key/linux" ]; then
            if [ "$tree" != "$linux" ]; then
                mkdir -p "$LAB_CACHE/kernels"
                # A killed build leaves its directory; it is ours, and we hold the lock.
                rm -rf "$LAB_CACHE/kernels/.tmp."*
                work=$(mktemp -d "$LAB_CACHE/kernels/.tmp.XXXXXX")
            fi
            say "building Linux ${linux#* } with OpenZFS $zfs (3 to 6 minutes on two cores; log: $work/log)"
            if [ "$tree" != "$linux" ]; then
                same=()
                for series in "${!modules[@]}"; do
                    [ "${linuxes[$series]}" != "$linux" ] || same+=("${modules[$series]}")
                done
                kernel_step kernel_prepare "$work" "$linux" "${same[@]}"
                tree=$linux
            fi
            kernel_step kernel_compile "$work" "$zfs"
            mkdir "$work/out"
            cp "$work/src/linux" "$work/log" "$work/out/"
            cp "$work/src/.config" "$work/out/config"
            printf '%s\n' "$recipe" >"$work/out/recipe"
            printf 'linux %s\nzfs %s\n' "${linux#* }" "$zfs" >"$work/out/versions"
            rm -rf "${LAB_CACHE:?}/kernels/$key"
            mv "$work/out" "$LAB_CACHE/kernels/$key"
        fi
        publish_link "$key" "$(kernel_link)"
        say "kernel ready: $(kernel_link)/linux (Linux ${linux#* }, OpenZFS $zfs)"
    done
    [ -z "$work" ] || rm -rf "$work"
}

# kernel_step STEP DIRECTORY ARGUMENTS...: runs a step, with its output in the log there.
kernel_step() {
    # A job of its own, because `set -e` has no effect inside a condition.
    "$@" >>"$2/log" 2>&1 &
    if ! wait $!; then
        tail -n 30 "$2/log" >&2
        die "the kernel could not be built; the whole log is $2/log"
    fi
}

# Sets the same environment for every step: the user's own make (-j, jobserver) and locale must not affect it.
kernel_environment() {
    unset MAKEFLAGS MFLAGS MAKELEVEL
    export LC_ALL=C ARCH=um
}

# kernel_prepare DIRECTORY 'SERIES VERSION' ZFS...: configures the kernel in DIRECTORY/src, and each OpenZFS for it in
# DIRECTORY/zfs-VERSION. All are configured before anything is compiled: the result of a configure must not depend on
# what was built before it.
kernel_prepare() (
    set -ex
    work=$1 linux=linux-source-${2% *} version=${2#* } pids=()
    shift 2
    kernel_environment
    download "$work/debs" "$linux=$version"
    mkdir "$work/src" "$work/tree"
    dpkg-deb -x "$work"/debs/linux-source-*.deb "$work/tree"
    tar -xf "$work/tree/usr/src/$linux.tar.xz" -C "$work/src" --strip-components=1
    rm -rf "$work/tree" "$work/debs"
    cd "$work/src"
    cp fs/Kconfig fs/Makefile "$work/"
    make defconfig
    kernel_options
    make olddefconfig
    make -j"$(nproc)" prepare modules_prepare
    for zfs; do
        kernel_configure "$work" "$zfs" >"$work/log.$zfs" 2>&1 &
        pids+=($!)
    done
    for zfs; do
        wait "${pids[0]}" || { cat "$work/log.$zfs" && exit 1; }
        pids=("${pids[@]:1}")
    done
)

kernel_configure() (
    set -ex
    work=$1 zfs=$2
    download "$work/debs-$zfs" "zfs-dkms=$zfs"
    dpkg-deb -x "$work/debs-$zfs"/*.deb "$work/tree-$zfs"
    mv "$work/tree-$zfs"/usr/src/zfs-* "$work/zfs-$zfs"
    rm -rf "$work/tree-$zfs" "$work/debs-$zfs"
    cd "$work/zfs-$zfs"
    ./configure --enable-linux-builtin --with-linux="$work/src" --with-linux-obj="$work/src" --with-config=kernel
)

# kernel_compile DIRECTORY ZFS: builds DIRECTORY/src/linux. It reuses what was compiled there with another OpenZFS.
kernel_compile() (
    set -ex
    work=$1 zfs=$2
    kernel_environment
    rm -rf "$work/src/fs/zfs" "$work/src/include/zfs" "$work/src/linux"
    cp "$work/Kconfig" "$work/Makefile" "$work/src/fs/"
    cd "$work/zfs-$zfs"
    if [ -e copy-builtin ]; then
        ./copy-builtin "$work/src"
    else
        kernel_copy_builtin "$work/src"
    fi
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

# Debian's package of 2.1 lacks copy-builtin, but its Kbuild files support this place.
kernel_copy_builtin() {
    cp -a module "$1/fs/zfs"
    cp -a include "$1/include/zfs"
    cp zfs_config.h "$1/include/zfs/"
    printf 'config ZFS\n\tbool "OpenZFS"\n\tdepends on BLOCK\n\tselect ZLIB_INFLATE\n\tselect ZLIB_DEFLATE\n' >"$1/fs/zfs/Kconfig"
    printf 'source "fs/zfs/Kconfig"\n' >>"$1/fs/Kconfig"
    # shellcheck disable=SC2016 # for make
    printf 'obj-$(CONFIG_ZFS) += zfs/\n' >>"$1/fs/Makefile"
}

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

# Builds the guest's process 1, once for each source.
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
