# shellcheck shell=bash
# Debian packages as a source of files: a private apt that knows more suites than the system does, and writes nothing
# outside the cache. Nothing is installed here.

# The suites that are used besides the host's own. Their priority is lower, so that a package is taken from them only if
# its version is named.
LAB_SUITES=(bookworm bookworm-backports trixie trixie-backports testing sid)

lab_codename() {
    (
        # shellcheck disable=SC1091
        . /etc/os-release
        printf '%s\n' "${VERSION_CODENAME:-}"
    )
}

# Prints the base address of the archive that the system itself uses for a suite.
system_mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$1" '$1 == suite { sub("/$", "", $2); print $2; exit }'
}

apt_root() {
    printf '%s\n' "$LAB_CACHE/apt/$(lab_codename)"
}

# private TOOL ARGS...: runs apt-get or apt-cache with the private configuration.
private() {
    local tool=$1 root
    shift
    root=$(apt_root)
    "$tool" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$root/sources" \
        -o Dir::Etc::preferences="$root/preferences" -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State::lists="$root/lists" -o Dir::Cache="$root/cache" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Get::List-Cleanup=0 \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Writes the private configuration and reads the lists, unless that was done within a day.
apt_refresh() {
    need apt-get apt-cache dpkg-deb
    local root host main security suites suite keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    root=$(apt_root)
    host=$(lab_codename)
    if [ "${1:-}" != --force ] && [ -n "$(find "$root/stamp" -mmin -1440 2>/dev/null)" ]; then
        return 0
    fi
    main=$(system_mirror "$host")
    security=$(system_mirror "$host-security")
    [ -n "$main" ] || die "this system's apt has no source for Debian $host"
    [ -r "$keyring" ] || die "$keyring is missing: install debian-archive-keyring"
    suites=${LAB_SUITES[*]}
    case " $suites " in *" $host "*) ;; *) suites="$host $suites" ;; esac
    rm -rf "$root"
    mkdir -p "$root/sources" "$root/lists/partial" "$root/cache/archives/partial"
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main contrib\nSigned-By: %s\n' \
            "$main" "$suites" "$keyring"
        if [ -n "$security" ]; then
            printf '\nTypes: deb\nURIs: %s\nSuites: %s\nComponents: main contrib\nSigned-By: %s\n' \
                "$security" "$host-security" "$keyring"
        fi
    } >"$root/sources/lab.sources"
    for suite in $suites; do
        case $suite in
            "$host" | "$host-backports") continue ;;
            testing) printf 'Package: *\nPin: release a=testing\nPin-Priority: 1\n\n' ;;
            *) printf 'Package: *\nPin: release n=%s\nPin-Priority: 1\n\n' "$suite" ;;
        esac
    done >"$root/preferences"
    say "reading the package lists ($suites)"
    private apt-get update -qq >&2 || say "some package lists could not be read; going on with the rest"
    touch "$root/stamp"
}

# newest PACKAGE PATTERN: prints the newest version in any suite that matches the glob.
newest() {
    local version best=
    while read -r version; do
        # shellcheck disable=SC2254
        case $version in $2) ;; *) continue ;; esac
        if [ -z "$best" ] || dpkg --compare-versions "$version" gt "$best"; then
            best=$version
        fi
    done < <(private apt-cache madison "$1" | awk -F'|' '{ gsub(" ", "", $2); print $2 }')
    [ -n "$best" ] || return 1
    printf '%s\n' "$best"
}

# download DIRECTORY PACKAGE=VERSION...
download() {
    local directory=$1
    shift
    mkdir -p "$directory"
    (cd "$directory" && private apt-get download -qq "$@" >&2) || die "cannot download $*"
}

# To be raised when a change to how the tree is built must not be served from a cache.
LAB_USERLAND_RECIPE=3

# Lists the OpenZFS userland and the container tools, which are unpacked side by side. The guest lays the tree over its
# /usr, where programs find it in the usual places; the host never sees it. 2.3 is preferred: it also works with the 2.4
# module, and needs no newer libc than that of Debian 12. 2.1 gets its own userland, because hosts with 2.1 run that,
# and an older libzfs_core is part of the test.
userland_packages() {
    local host=$1 zfs pattern patterns=("2.3.*bpo$host*" "2.3.*deb$host*" "2.*bpo$host*" "2.3.*" "2.*")
    [ "$LAB_SERIES" != 2.1 ] || patterns=("2.1.*")
    for pattern in "${patterns[@]}"; do
        zfs=$(newest zfsutils-linux "$pattern") && break
    done
    [ -n "$zfs" ] || die "no OpenZFS userland for Debian $host"
    printf '%s\n' "zfsutils-linux=$zfs" "libzfslinux-dev=$zfs"
    # Their libraries, whose names change with the series, must be listed with the same version.
    private apt-cache show "zfsutils-linux=$zfs" "libzfslinux-dev=$zfs" |
        awk -v zfs="$zfs" '/^Depends:/ { n = split(substr($0, 9), part, ",")
            for (i = 1; i <= n; i++) if (index(part[i], "(= " zfs ")")) {
                split(part[i], word, " "); print word[1] "=" zfs } }' | sort -u
    printf '%s\n' crun conmon catatonit golang-github-containers-common
}

userland_is_current() {
    [ "$(cat "$1/usr/share/ezz-lab/recipe" 2>/dev/null)" = "$LAB_USERLAND_RECIPE" ]
}

userland_link() {
    case $LAB_SERIES in
        2.1) printf '%s\n' "$LAB_CACHE/userland/$(lab_codename)-2.1" ;;
        *) printf '%s\n' "$LAB_CACHE/userland/$(lab_codename)" ;;
    esac
}

# lab_userland [--update]: builds the userland for $LAB_SERIES unless it is in the cache.
lab_userland() {
    local link
    link=$(userland_link)
    if [ "${1:-}" != --update ] && userland_is_current "$link"; then
        return 0
    fi
    locked userland userland_build "$link" "${1:-}"
}

userland_build() {
    local link=$1 work host package packages
    [ "${2:-}" != --update ] && userland_is_current "$link" && return 0
    locked apt apt_refresh "${2:+--force}"
    host=$(
        # shellcheck disable=SC1091
        . /etc/os-release
        printf '%s\n' "${VERSION_ID:-}"
    )
    mapfile -t packages < <(userland_packages "$host")
    [ ${#packages[@]} -gt 0 ] || exit 125
    mkdir -p "$LAB_CACHE/userland"
    work=$(mktemp -d "$LAB_CACHE/userland/.tmp.XXXXXX")
    mkdir -p "$work/debs/partial" "$work/tree"
    # apt resolves against the host's own package database, so that only packages that the host lacks are downloaded.
    private apt-get install -qq --yes --download-only --no-install-recommends --reinstall \
        --allow-downgrades --allow-change-held-packages \
        -o Dir::Cache::archives="$work/debs" "${packages[@]}" >&2 || die "cannot download ${packages[*]}"
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/tree" || die "cannot unpack $package"
    done
    merge_usr "$work/tree"
    # Never used in the guest, where every file has a small cost.
    rm -rf "$work"/tree/usr/share/{doc,man,gocode,lintian,initramfs-tools,bash-completion,locale}
    find "$work/tree/usr/lib" -name '*.a' -delete
    stand_in "$work/tree" libzfs.so.6 libcrypto.so.3 libtrapto.so.3
    stand_in "$work/tree" libtirpc.so.3 libgssapi_krb5.so.2 libgssapi_trap.so.2
    mkdir -p "$work/tree/usr/share/ezz-lab"
    (cd "$work/debs" && printf '%s\n' *.deb) >"$work/tree/usr/share/ezz-lab/packages"
    printf '%s\n' "$LAB_USERLAND_RECIPE" >"$work/tree/usr/share/ezz-lab/recipe"
    chmod 755 "$work/tree"
    local name
    name=$(basename "$link")-$(hash_of "$work"/tree/usr/share/ezz-lab/*)
    rm -rf "${LAB_CACHE:?}/userland/$name"
    mv "$work/tree" "$LAB_CACHE/userland/$name"
    rm -rf "$work"
    publish_link "$name" "$link"
    say "userland ready: $link"
}

# Older packages put files into /bin, /sbin and /lib; the guest needs them in /usr.
merge_usr() {
    local directory
    for directory in bin sbin lib lib64; do
        [ -d "$1/$directory" ] || continue
        mkdir -p "$1/usr/$directory"
        cp -a "$1/$directory/." "$1/usr/$directory/"
        rm -rf "${1:?}/$directory"
    done
}

# stand_in TREE LIBRARY NEEDED NAME: makes calls from LIBRARY into NEEDED end the process. Half of the cost of starting
# zfs in the guest are page faults, 0.1 ms each, for relocating libcrypto, which it needs for keys from passphrases, and
# Kerberos, for remote procedure calls. The library in the tree loads NAME instead, a name of the same length; other
# programs use the real libraries.
stand_in() {
    local tree=$1 library=$2 needed=$3 name=$4 file directory host versions version symbols
    file=$(find "$tree/usr/lib" -name "$library" | head -n 1)
    if [ -z "$file" ]; then
        host=$(ldconfig -p | awk -v name="$library" '$1 == name { print $NF; exit }')
        # 2.1 has another library, and other systems may not need it: then zfs only starts more slowly.
        [ -n "$host" ] || return 0
        file=$tree/usr/lib/$(basename "$(dirname "$host")")/$library
        mkdir -p "$(dirname "$file")"
        cp -L "$host" "$file"
    fi
    file=$(readlink -f "$file")
    directory=$(dirname "$file")
    mapfile -t versions < <(objdump -p "$file" |
        awk -v needed="$needed:" '/required from/ { on = $3 == needed; next } on && NF == 4 { print $4 } NF == 0 { on = 0 }')
    [ ${#versions[@]} -gt 0 ] || return 0
    for version in "${versions[@]}"; do
        symbols=$(nm -D --undefined-only "$file" | sed -n "s/^ *U \\(.*\\)@$version\$/\\1/p")
        # shellcheck disable=SC2086
        printf 'void %s(void) { __builtin_trap(); }\n' $symbols
    done >"$directory/$name.c"
    printf '%s { global: *; };\n' "${versions[@]}" >"$directory/$name.map"
    gcc -shared -fPIC -nostdlib -w -Wl,-soname,"$name" -Wl,--version-script="$directory/$name.map" \
        -o "$directory/$name" "$directory/$name.c" || die "cannot make $name"
    rm -f "$directory/$name.c" "$directory/$name.map"
    LC_ALL=C sed -i "s/${needed//./\\.}/$name/g" "$file"
}
