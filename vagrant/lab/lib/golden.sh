# shellcheck shell=bash
# Golden images: a pool on a disk image on which something slow was done once; each use gets a sparse copy.

golden_image() {
    printf '%s\n' "$LAB_CACHE/golden/$LAB_SERIES/$1"
}

# Prints what the image depends on: the kernel, the command, and the files that its words or --input name.
golden_key() {
    local word
    {
        printf '%s\0' "$(readlink "$(kernel_link)")" "$opt_size" "$opt_mem" "${opt_args[@]}"
        for word in "${opt_args[@]}" ${opt_inputs[@]+"${opt_inputs[@]}"}; do
            [ ! -f "$word" ] || sha256sum <"$word"
        done
    } | sha256sum | cut -c1-16
}

# lab golden NAME [--size 8G] [--input FILE]... [--] CMD...: creates the image unless it exists.
lab_golden() {
    local name=${1:-} key link
    [ -n "$name" ] || die "golden wants a name"
    case $name in */* | -*) die "bad name for a golden image: $name" ;; esac
    shift
    parse_boot "$@"
    if [ ${#opt_args[@]} -eq 0 ]; then
        [ -e "$(golden_image "$name")" ] || die "no golden image $name (make it with: $LAB_DIR/lab golden $name -- COMMAND)"
        readlink -f "$(golden_image "$name")"
        return 0
    fi
    lab_kernel
    key=$(golden_key)
    link=$(golden_image "$name")
    if [ "$(readlink "$link" 2>/dev/null)" = "$name-$key.img" ] && [ -e "$link" ]; then
        return 0
    fi
    locked "golden-$LAB_SERIES-$name" golden_make "$name" "$name-$key.img" "$link"
}

golden_make() {
    local name=$1 file=$2 link=$3 directory image status=0 old
    [ "$(readlink "$link" 2>/dev/null)" = "$file" ] && [ -e "$link" ] && return 0
    directory=$(dirname "$link")
    mkdir -p "$directory"
    # Left by a killed run; we hold the lock.
    rm -f "$directory/.tmp.$name".*
    image=$(mktemp "$directory/.tmp.$name.XXXXXX")
    truncate -s "$opt_size" "$image"
    opt_disks=("$image")
    opt_pool=disk
    # The export completes the image; without it the copy would be one after a power cut.
    # shellcheck disable=SC2016 # to be expanded in the guest
    opt_args=(/bin/sh -c '"$@" && cd / && zpool export tank' sh "${opt_args[@]}")
    trap boot_clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    boot_prepare
    boot_request
    boot_start
    boot_wait
    boot_status || status=$?
    if [ "$status" -ne 0 ]; then
        rm -f "$image"
        say "no golden image $name: the command ended with $status"
        return "$status"
    fi
    old=$(readlink "$link" 2>/dev/null || true)
    mv -f "$image" "$directory/$file"
    publish_link "$file" "$link"
    [ -z "$old" ] || [ "$old" = "$file" ] || rm -f "$directory/$old"
    say "golden image ready: $link"
}
