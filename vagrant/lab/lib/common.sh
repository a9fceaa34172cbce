# shellcheck shell=bash
# What every part of the lab needs: the place of the cache, messages, locks, atomic publishing. This file must not know
# apt, kernels or guests.

LAB_CACHE=${EZZ_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ezz-lab}
LAB_SERIES=${EZZ_LAB_ZFS:-2.4}

# A failure of the lab itself has exit status 125 and a line that starts with `lab:`, so that it is not mistaken for a
# failure of the command in the guest.
die() {
    printf 'lab: %s\n' "$*" >&2
    exit 125
}

say() {
    printf 'lab: %s\n' "$*" >&2
}

need() {
    local missing=() program
    for program in "$@"; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    [ ${#missing[@]} -eq 0 ] || die "not found on this host: ${missing[*]} (try: $LAB_DIR/lab doctor)"
}

# locked NAME COMMAND...: runs one command at a time for all labs that share the cache.
locked() {
    local name=$1 fd
    shift
    mkdir -p "$LAB_CACHE/lock"
    exec {fd}>"$LAB_CACHE/lock/$name"
    if ! flock -n "$fd"; then
        say "waiting for another lab that holds $name"
        flock "$fd"
    fi
    "$@" {fd}>&-
    local status=$?
    exec {fd}>&-
    return $status
}

# publish_link TARGET LINK: replaces LINK in one step.
publish_link() {
    ln -sfn "$1" "$2.$$"
    mv -fT "$2.$$" "$2"
}

hash_of() {
    cat "$@" | sha256sum | cut -c1-12
}
