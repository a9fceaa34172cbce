# shellcheck shell=bash
# Worlds with services as Debian packages them: an update that installs them, the next release, a database.
# Must not be here: what the tests do with them.

# Raised when a change to how they are made must not be served from a cache.
SERVICES_RECIPE=1

# A conffile, a data directory, a program with setgid and one with setuid, a group and a user.
SERVICES=(nginx cron dbus)

# Never used in the guest, and every file and every megabyte costs the guest a little. PostgreSQL compiles queries with
# LLVM only where it finds it.
SERVICES_EXCLUDED=('/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/i18n/*'
    '/usr/share/zoneinfo/*' '/usr/share/lintian/*' '/usr/share/bash-completion/*' '/usr/lib/*/libLLVM*'
    '/usr/lib/*/libz3*' '/usr/lib/postgresql/*/lib/llvmjit*' '/usr/lib/postgresql/*/lib/bitcode/*')

services_directory() {
    printf '%s\n' "$LAB_CACHE/worlds/services-$SERVICES_RECIPE"
}

# services_world SUITE FILE OPTIONS...: a small Debian with what the options add.
services_world() {
    local suite=$1 file=$2 mirror path arguments=()
    shift 2
    mirror=$(system_mirror "$(lab_codename)")
    [ -n "$mirror" ] || die "this system's apt has no source for Debian"
    arguments=(--variant=essential --mode=auto --format=tar "--aptopt=Acquire::Retries \"3\""
        "--aptopt=APT::Install-Recommends \"false\"")
    for path in "${SERVICES_EXCLUDED[@]}"; do
        arguments+=("--dpkgopt=path-exclude=$path")
    done
    arguments+=("--dpkgopt=path-include=/usr/share/zoneinfo/Etc/*")
    mmdebstrap "${arguments[@]}" "$@" "$suite" "$file" "deb $mirror $suite main" >"$file.log" 2>&1 </dev/null || {
        tail -n 20 "$file.log" >&2
        die "mmdebstrap failed; its log is $file.log"
    }
}

# services_repository ROOT: a flat repository in the world (sources.list(5)) with the services, hello, and all that they
# need.
# In next/, which is not part of it, there is a newer nginx-common with another default in a conffile.
services_repository() {
    local root=$1 repository=$1/usr/share/packages
    mkdir -p "$repository/next"
    rm -f "$root"/var/cache/apt/archives/*.deb
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -qq --yes --download-only "${SERVICES[@]}" hello
    mv "$root"/var/cache/apt/archives/*.deb "$repository"
    (cd "$repository" && dpkg-scanpackages . >Packages)
    dpkg-deb -R "$repository"/nginx-common_*.deb "$repository/work"
    sed -i 's/^Version: .*/&+next/' "$repository/work/DEBIAN/control"
    sed -i 's/worker_connections 768;/worker_connections 512;/' "$repository/work/etc/nginx/nginx.conf"
    grep -q 'worker_connections 512;' "$repository/work/etc/nginx/nginx.conf"
    dpkg-deb --root-owner-group --build "$repository/work" "$repository/next/nginx-common.deb"
    rm -r "$repository/work"
    echo 'deb [trusted=yes] file:/usr/share/packages ./' >"$root/etc/apt/sources.list"
    find "$root/var/lib/apt/lists" -type f -delete
}

# lab world services: prints the directory of debian-12.tar (with packages to install), nginx-12.tar and nginx-13.tar
# (two releases that have them installed), and postgresql.tar (Debian 12).
services_build() {
    local directory=$1 work
    [ ! -e "$directory" ] || return 0
    need mmdebstrap dpkg-deb dpkg-scanpackages
    mkdir -p "$LAB_CACHE/worlds"
    work=$(mktemp -d "$LAB_CACHE/worlds/.tmp.XXXXXX")
    say 'making four Debian worlds with services by mmdebstrap (two minutes)'
    {
        declare -p SERVICES
        declare -f services_repository
        # shellcheck disable=SC2016 # for the shell that runs it
        printf 'set -eu\nservices_repository "$1"\n'
    } >"$work/repository"
    local bookworm=(--include=usr-is-merged) services="--include=${SERVICES[*]}"
    # The libraries are there already: an update that installs them, too, takes the guest a third of a minute.
    services_world bookworm "$work/debian-12.tar" "${bookworm[@]}" \
        --include=apt,adduser,sensible-utils,iproute2,libssl3,libexpat1,libdbus-1-3,libapparmor1 \
        "--customize-hook=bash $work/repository \"\$1\"" &
    services_world bookworm "$work/nginx-12.tar" "${bookworm[@]}" "$services"
    wait $! || exit 125
    services_world bookworm "$work/postgresql.tar" "${bookworm[@]}" --include=postgresql &
    services_world trixie "$work/nginx-13.tar" "$services"
    wait $! || exit 125
    rm -f "$work/repository" "$work"/*.log
    rm -rf "$LAB_CACHE"/worlds/services-*
    chmod 755 "$work"
    mv "$work" "$directory"
    say "worlds ready: $directory"
}
