#!/bin/sh
# A throw-away jail for each job: all of them are made by one transaction, and gone afterwards.
# usage: jobs.sh BATCH <JOBS      a line of JOBS is a command for a shell; BATCH names the jails
# Exit status: how many jobs have failed, at most 100.
set -eu
batch=${1:?usage: jobs.sh BATCH <JOBS}
jobs=$(mktemp)
trap 'rm -f "$jobs"' EXIT
cat >"$jobs"
count=$(grep -c '' "$jobs") || { echo 'jobs.sh: no jobs' >&2; exit 2; }

# All or none; what a label finds is deleted again, also after a job was interrupted.
ezz create --quiet --atomic --count "$count" --prefix "$batch-" --label "batch=$batch" --start
trap 'ezz delete --quiet --yes --label "batch=$batch"; rm -f "$jobs"' EXIT
trap 'exit 130' INT TERM

number=0 failed=0
while IFS= read -r job; do
    number=$((number + 1))
    # As --count writes it: as many digits as the last one has.
    jail=$(printf "%s-%0${#count}d" "$batch" "$number")
    if ezz exec "$jail" -- /bin/sh -c "$job" </dev/null; then
        echo "$jail: done"
    else
        echo "$jail: failed with $?" >&2
        failed=$((failed + 1))
    fi
done <"$jobs"
[ "$failed" -le 100 ] || failed=100
exit "$failed"
