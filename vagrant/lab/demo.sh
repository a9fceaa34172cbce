#!/bin/bash
# The demonstration: a real Debian world becomes a sealed basejail and running jails, which are updated and rolled back.
# shellcheck disable=SC2016 # what stands in single quotes is for the shell in the jail
# vagrant/demo runs it in the lab's guest, or on a host that has OpenZFS, with EZZ_SITE=pool/dataset for the site and
# EZZ_DEMO_DIRECTORY for its directory.
# usage: demo.sh EZZ WORLD, which is debian-12.tar of `lab world services`
set -euo pipefail
binary=$1 world=$2
site=${EZZ_SITE:-tank/ezz}
jails=(web1 web2 db1)
thick=build1

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
ln -s "$(readlink -f "$binary")" "$here/ezz"
PATH=$here:$PATH
export EZZ_SITE=$site

say() { printf '\n== %s\n' "$*"; }
# Shows the command as a user would type it, and runs it.
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
# The bytes of a dataset, the entries of a tree, and the bytes of memory that the kernel charges to a jail.
used() { zfs get -Hpo value used "$1"; }
entries() { find "$1" -xdev | wc -l; }
memory() {
    local total=0 value group
    for group in /sys/fs/cgroup/ezz/*/"$1"; do
        value=$(cat "$group/memory.current")
        total=$((total + value))
    done
    echo "$total"
}
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

say 'A site, and a world in it: unpacked, scrubbed, sealed'
run ezz init "$site" ${EZZ_DEMO_DIRECTORY:+--directory "$EZZ_DEMO_DIRECTORY"}
run ezz install "$world" --sha256 "$(sha256sum "$world" | cut -d' ' -f1)"
run ezz world list

say 'Three thin jails and a thick one'
run ezz create "${jails[@]}" --network none --start
run ezz create "$thick" --thick --network none --start
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
run ezz exec "$thick" -- sh -c 'dpkg -i /usr/share/packages/hello_*.deb'
run ezz exec "$thick" -- hello

say 'What a jail costs here, against a full copy of the world'
directory=$(zfs get -Hpo value mountpoint "$site")
newest=$(zfs list -Hro name -d1 "$site/basejail" | grep -E '/[0-9]+$' | sort -V | tail -n1)
number=${newest##*/}
mkdir "$here/copy" "$here/skeleton"
copy=$site-full-copy
undo() {
    umount "$here/skeleton" 2>/dev/null || true
    ! zfs list "$copy" >/dev/null 2>&1 || zfs destroy -r "$copy"
}
trap 'undo; rm -rf "$here"' EXIT
zfs send "$newest@$number" | zfs receive -u -o canmount=noauto -o mountpoint="$here/copy" "$copy"
zfs mount "$copy"
mount -t zfs -o ro "$site/newjail/$number@$number" "$here/skeleton"
# The same programs run in a second thin jail, whose files a first one has already read into memory, and in the thick
# one, which has its own files, like a full copy.
programs='for n in 1 2 3; do perl -e 1; find /usr -xdev >/dev/null; dpkg --version >/dev/null; done'
for jail in "${jails[0]}" "${jails[1]}" "$thick"; do ezz exec "$jail" -- sh -c "$programs"; done
more=$(($(entries "$directory/${jails[1]}") - $(entries "$here/skeleton")))
printf '%-28s %14s %14s\n' '' 'one more jail' 'a full copy'
printf '%-28s %14s %14s\n' 'disk' "$(mib "$(used "$site/jails/${jails[1]}")")" "$(mib "$(used "$copy")")"
printf '%-28s %14s %14s\n' 'new files and directories' "$more" "$(entries "$here/copy")"
printf '%-28s %14s %14s\n' 'memory with a few programs' "$(mib "$(memory "${jails[1]}")")" "$(mib "$(memory "$thick")")"
undo

say 'An update brings a service: a new generation beside the one that runs'
run ezz update --run sh -c 'apt-get update && apt-get install -y nginx'
run ezz list "${jails[@]}"
run ezz exec "${jails[0]}" -- sh -c 'command -v nginx || echo "no nginx here yet"'

say 'A restart brings a jail to it: program, configuration, directories, init script'
run ezz converge
serve() {
    run ezz exec "$1" -- nginx
    # The world has no client; bash can ask.
    run ezz exec "$1" -- bash -c 'exec 3<>/dev/tcp/localhost/80; printf "GET / HTTP/1.0\n\n" >&3; grep -o "<h1>.*</h1>" <&3'
}
serve "${jails[0]}"
run ezz exec "${jails[1]}" -- sh -c 'echo "<h1>mine</h1>" >/var/www/html/index.html'
serve "${jails[1]}"

say 'A bad update is found by a canary, and goes back by itself'
status=0
run ezz update --restart --canary "${jails[0]}" --health 'nginx -t' --health-limit 2 --run dpkg --purge nginx || status=$?
[ "$status" -eq 1 ] || fail 'the bad update should have failed'
for jail in "${jails[@]}"; do ezz exec "$jail" -- sh -c 'command -v nginx' >/dev/null || fail "$jail has lost nginx"; done
run ezz world tree

say 'Back by hand: the service is gone, and what a jail has written stays; twice returns'
run ezz rollback --restart
run ezz exec "${jails[1]}" -- sh -c 'command -v nginx || echo "no nginx here"; ls -d /etc/nginx; ls /var/www/html'
run ezz rollback --restart
serve "${jails[1]}"

say 'Prune destroys what no track and no jail needs'
run ezz world prune --yes

say 'Nothing has changed the worlds that they share'
run ezz world verify --all

say 'And away again'
run ezz stop "${jails[@]}" "$thick"
run ezz delete --yes "${jails[@]}" "$thick"
run ezz list
