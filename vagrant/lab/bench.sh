#!/bin/bash
# How long a jail takes to make, against the ways that need no ezz, side by side in one boot.
# Run by `make bench`, in the lab's guest on the golden image `site`. Only the ratios mean something:
# the guest's clock and its price for a process are not those of a machine (vagrant/lab/README.md).
# usage: bench.sh EZZ
set -euo pipefail
binary=$1
rounds=${ROUNDS:-3}
origin=tank/ezz/newjail/1@1
export EZZ_SITE=tank/ezz
zfs create -o canmount=off -o mountpoint=none tank/peer

now() { date +%s%N; }
# Milliseconds that a command takes.
took() {
    local start
    start=$(now)
    "$@" >/dev/null
    echo $((($(now) - start) / 1000000))
}
clone_loop() { for n in $(seq "$1"); do zfs clone -o ezz:jail='{"skel":1}' "$origin" "tank/peer/j$n"; done; }
# One channel program that clones and sets a property each, and nothing else: the floor.
cat >/tmp/floor.lua <<'LUA'
args = ...
argv = args.argv
for i = 1, tonumber(argv[1]) do
  local d = "tank/peer/j" .. i
  if zfs.sync.clone(argv[2], d) ~= 0 then error(d) end
  zfs.sync.set_prop(d, "ezz:jail", '{"kind":"thin","base":{"track":"main"},"skel":1}')
end
LUA
floor() { zfs program tank /tmp/floor.lua "$1" "$origin"; }
ezz_create() { "$binary" create --quiet "j{1..$1}"; }
clear_peer() { zfs destroy -r tank/peer && zfs create -o canmount=off -o mountpoint=none tank/peer; }
clear_ezz() { "$binary" delete --quiet --yes "j{1..$1}"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

declare -A times
for round in $(seq "$rounds"); do
    for count in 1 10 100; do
        if [ "$count" -lt 100 ] || [ "$round" -eq 1 ]; then
            times[loop-$count]+="$(took clone_loop "$count") "
            clear_peer
        fi
        times[floor-$count]+="$(took floor "$count") "
        clear_peer
        times[ezz-$count]+="$(took ezz_create "$count") "
        clear_ezz "$count"
    done
    times[floor-1000]+="$(took floor 1000) "
    clear_peer
    times[ezz-1000]+="$(took ezz_create 1000) "
    clear_ezz 1000
done
middle() { tr ' ' '\n' <<<"${times[$1]:-}" | grep . | median || true; }
ratio() { awk -v of="$1" -v by="$2" 'BEGIN { if (of == "" || by + 0 == 0) print "-"; else printf "%.1f", of / by }'; }
printf 'milliseconds, median of %s rounds (the loop of 100: one round)\n\n' "$rounds"
printf '%6s %18s %16s %14s %16s %18s\n' jails 'zfs clone loop' 'bare program' 'ezz create' 'loop / create' 'create / program'
for count in 1 10 100 1000; do
    loop=$(middle "loop-$count") floor=$(middle "floor-$count") create=$(middle "ezz-$count")
    printf '%6s %18s %16s %14s %16s %18s\n' "$count" "${loop:--}" "$floor" "$create" \
        "$(ratio "$loop" "$create")" "$(ratio "$create" "$floor")"
done
