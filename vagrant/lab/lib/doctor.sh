# shellcheck shell=bash
# Reports what this host lacks for the lab.

# Packages of Debian 12 and 13 that contain the programs of the lab; the Makefile installs them.
LAB_PACKAGES=(build-essential flex bison bc libelf-dev libssl-dev autoconf automake libtool cpio kmod
    xz-utils zstd perl mmdebstrap util-linux python3 openssl)

lab_packages() {
    printf '%s\n' "${LAB_PACKAGES[@]}"
}

lab_doctor() {
    local bad=0 package probe
    check() {
        if [ "$1" = ok ]; then
            printf 'ok       %s\n' "$2"
        else
            printf 'MISSING  %s\n' "$2"
            bad=1
        fi
    }
    [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] && check ok "Linux on x86_64" ||
        check no "Linux on x86_64 (User Mode Linux runs nowhere else); this is $(uname -s) on $(uname -m)"
    if command -v apt-get >/dev/null && [ -n "$(lab_codename)" ]; then
        check ok "Debian $(lab_codename)"
        for package in "${LAB_PACKAGES[@]}"; do
            dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
                check no "package $package"
        done
        [ -n "$(system_mirror "$(lab_codename)")" ] && check ok "apt has a source for $(lab_codename)" ||
            check no "an apt source for $(lab_codename)"
    else
        check no "Debian: kernel source, OpenZFS and the tools come from its packages"
    fi
    probe=$(mktemp /dev/shm/ezz-lab.XXXXXX 2>/dev/null) && printf '#!/bin/sh\n' >"$probe" && chmod +x "$probe" &&
        "$probe" 2>/dev/null && check ok "/dev/shm allows to execute: the guest's memory is there" ||
        check no "/dev/shm that allows to execute: set TMPDIR to a place that does"
    rm -f "$probe"
    kernel_is_current && check ok "kernel $(tr '\n' ' ' <"$(kernel_link)/versions")" ||
        check no "the kernel with OpenZFS $LAB_SERIES (made by: lab kernel)"
    userland_is_current "$(userland_link)" && check ok "userland" ||
        check no "the OpenZFS userland (made by: lab userland)"
    [ "$bad" -eq 0 ] || return 1
}
