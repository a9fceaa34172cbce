#!/bin/bash
# Measures the cost of updates in one boot; tests/bench measures the cost of new jails. `make bench` runs this in the
# lab's guest on the golden image `site`. Only the ratios are meaningful: the guest's clock and its cost of processes
# are not those of a real machine (vagrant/lab/README.md).
# usage: bench.sh EZZ
# shellcheck disable=SC2016 # what stands in single quotes is for the shell that an update runs
set -euo pipefail
binary=$1
rounds=${ROUNDS:-3}
export EZZ_SITE=tank/ezz

now() { date +%s%N; }
# Prints the milliseconds that a command takes.
took() {
    local start
    start=$(now)
    "$@" >/dev/null
    echo $((($(now) - start) / 1000000))
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

declare -A times
middle() { tr ' ' '\n' <<<"${times[$1]:-}" | grep . | median || true; }
ratio() { awk -v of="$1" -v by="$2" 'BEGIN { if (of == "" || by + 0 == 0) print "-"; else printf "%.1f", of / by }'; }
# Worlds: a swap and the way back cost the same for any number of jails; a generation without a change costs its
# skeleton and its manifest; a manifest is hashed as fast as by sha256sum.
printf '\nworlds, medians of %s rounds\n\n' "$rounds"
# shellcheck disable=SC2016
"$binary" update --quiet --stage-only --on-host --run sh -c ': >"$EZZ_ROOT/etc/bench"'
base=tank/ezz/basejail
bytes() { zfs get -Hpo value "$1" "$2"; }
at=$(bytes mountpoint "$base/2")
manifest=$(stat -c %s "$at/.ezz/manifest.mtree.zst")
spent=$(($(bytes used "$base/2") + $(bytes used tank/ezz/newjail/2)))
most=$(($(bytes used tank/ezz/newjail/2) + manifest + $(bytes referenced "$base/1") / 100))
printf '%-58s %s of %s KiB\n' 'staging an unchanged world (skeleton, manifest, 1 % of base)' \
    $((spent / 1024)) $((most / 1024))
hash_all() { (cd "$at" && find . -xdev -type f -not -path './.ezz/*' -print0 | xargs -0 -P "$(nproc)" -n 200 sha256sum); }
verify() { "$binary" world verify --quiet 2; }
for _ in $(seq "$rounds"); do
    times[sha256sum]+="$(took hash_all) "
    times[verify]+="$(took verify) "
done
printf '%-58s %s (goal: at least 0.7)\n' 'sha256sum of all files / reading it all against its manifest' \
    "$(ratio "$(middle sha256sum)" "$(middle verify)")"
for count in 10 2000; do
    for first in $(seq 1 1000 "$count"); do
        last=$((first + 999 < count ? first + 999 : count))
        "$binary" create --quiet "k{$first..$last}"
    done
    for _ in $(seq "$rounds"); do
        times[swap-$count]+="$(took "$binary" update --quiet --swap 2) "
        times[back-$count]+="$(took "$binary" rollback --quiet) "
    done
    "$binary" delete --quiet --yes $(seq -f 'k%g' 1 "$count")
done
for verb in swap back; do
    printf '%-58s %s / %s ms = %s (goal: at most 1.5)\n' "$verb with 2000 jails / with 10" \
        "$(middle "$verb-2000")" "$(middle "$verb-10")" "$(ratio "$(middle "$verb-2000")" "$(middle "$verb-10")")"
done

# Running jails move to a generation whose skeleton differs from theirs in 300 files, and to one whose skeleton does not
# differ; then they move back, which undoes the merges. There is one round, since each restarts a hundred jails.
of_many() { "$binary" update --quiet "$@" --on-host --run sh -c "$change"; }
change='mkdir "$EZZ_ROOT/etc/many"; for n in $(seq 300); do echo "old $n" >"$EZZ_ROOT/etc/many/$n"; done'
of_many
change='echo new >"$EZZ_ROOT/usr/share/bench"' && of_many --stage-only
change='for n in $(seq 300); do echo "new $n" >"$EZZ_ROOT/etc/many/$n"; done' && of_many --stage-only
"$binary" create --quiet 'm{1..100}'
"$binary" start --quiet 'm*'
for way in same:4 differ:5; do
    "$binary" update --quiet --swap "${way#*:}"
    times[${way%:*}]=$(took "$binary" converge --quiet --batch 100)
    "$binary" rollback --quiet --to 3
    times[${way%:*}-back]=$(took "$binary" converge --quiet --batch 100)
done
for back in '' -back; do
    printf '%-58s %s / %s ms = %s\n' "converge$back, 100 jails, 300 files differ / none" \
        "${times[differ$back]}" "${times[same$back]}" "$(ratio "${times[differ$back]}" "${times[same$back]}")"
done
