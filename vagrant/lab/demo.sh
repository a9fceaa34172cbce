#!/bin/bash
# The demonstration: a real Debian world becomes a sealed basejail and running jails.
# shellcheck disable=SC2016 # what stands in single quotes is for the shell in the jail
# Run by `make demo`: in the lab's guest, or with EZZ_SITE=pool/dataset on a host that has OpenZFS.
# usage: demo.sh EZZ WORLD.tar.zst
set -euo pipefail
binary=$1 world=$2
site=${EZZ_SITE:-tank/ezz}
package=${world%.tar.zst}.hello.deb
jails=(web1 web2 db1)
thick=build1

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
ln -s "$(readlink -f "$binary")" "$here/ezz"
PATH=$here:$PATH
export EZZ_SITE=$site

say() { printf '\n== %s\n' "$*"; }
# Shows the command as one would type it, and runs it.
run() {
    local word line=''
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./:=,@%+-]*) word="'$word'" ;; esac
        line+=" $word"
    done
    printf '#%s\n' "$line"
    "$@"
}
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
# The numbers of one dataset, and of the memory that OpenZFS holds files in.
used() { zfs get -Hpo value used "$1"; }
arc() { awk '$1 == "size" { print $3 }' /proc/spl/kstat/zfs/arcstats; }
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

say 'A site, and a world in it: unpacked, scrubbed, sealed'
run ezz init "$site"
run ezz install "$world" --sha256 "$(sha256sum "$world" | cut -d' ' -f1)"
run ezz worlds list

say 'Three thin jails and a thick one'
run ezz create "${jails[@]}" --start
run ezz create "$thick" --thick --start
run ezz list

say 'A command in each'
for jail in "${jails[@]}" "$thick"; do
    run ezz exec "$jail" -- sh -c 'echo "$(hostname): $(. /etc/os-release; echo "$PRETTY_NAME"), uid $(id -u)"'
done

say 'Root of a thin jail cannot change what all jails share'
status=0
run ezz exec "${jails[0]}" -- cp /bin/ls /usr/bin/su 2>"$here/refused" || status=$?
cat "$here/refused"
if [ "$status" -eq 0 ] || ! grep -q 'Read-only file system' "$here/refused"; then
    fail 'that should have been refused'
fi

say 'A thick jail has a package manager of its own'
run ezz exec "$thick" -- sh -c 'cat >/tmp/hello.deb' <"$package"
run ezz exec "$thick" -- dpkg -i /tmp/hello.deb
run ezz exec "$thick" -- hello

say 'What a jail costs here, against a full copy of the world'
copy=$site-full-copy
base=$(zfs list -Hro name -d1 "$site/basejail" | grep -E '/[0-9]+$' | sort -V | tail -n1)
zfs create -o canmount=noauto -o mountpoint="$here/copy" "$copy"
trap 'zfs destroy -r "$copy" 2>/dev/null; rm -rf "$here"' EXIT
zfs send "$base@${base##*/}" | zfs receive -F -o canmount=noauto -o mountpoint="$here/copy" "$copy"
zfs mount "$copy"
thin_bytes=$(used "$site/jails/${jails[1]}")
copy_bytes=$(used "$copy")
# What the jail has more than the skeleton that it was cloned from.
origin=$(zfs get -Hpo value origin "$site/jails/${jails[1]}")
mkdir "$here/skeleton"
mount -t zfs "$origin" "$here/skeleton"
root=$(zfs get -Hpo value mountpoint "$site/jails/${jails[1]}")
thin_files=$(($(find "$root" -xdev | wc -l) - $(find "$here/skeleton" -xdev | wc -l)))
umount "$here/skeleton"
copy_files=$(find "$here/copy" -xdev | wc -l)
# Memory: what reading all programs adds, once a first jail has read them.
read_all='find -L /usr/bin /usr/lib -xdev -type f -exec cat {} + 2>/dev/null >/dev/null'
ezz exec "${jails[0]}" -- sh -c "$read_all" || true
before=$(arc)
ezz exec "${jails[1]}" -- sh -c "$read_all" || true
thin_memory=$(($(arc) - before))
before=$(arc)
find "$here/copy/usr/bin" "$here/copy/usr/lib" -xdev -type f -exec cat {} + >/dev/null
copy_memory=$(($(arc) - before))
[ "$thin_memory" -ge 0 ] || thin_memory=0
printf '%-28s %14s %14s\n' '' 'one more jail' 'a full copy'
printf '%-28s %14s %14s\n' 'disk' "$(mib "$thin_bytes")" "$(mib "$copy_bytes")"
printf '%-28s %14s %14s\n' 'new inodes' "$thin_files" "$copy_files"
printf '%-28s %14s %14s\n' 'memory to run its programs' "$(mib "$thin_memory")" "$(mib "$copy_memory")"
zfs destroy -r "$copy"

say 'Nothing has changed the world that they share'
run ezz worlds verify

say 'And away again'
run ezz stop "${jails[@]}" "$thick"
run ezz delete --yes "${jails[@]}" "$thick"
run ezz list
