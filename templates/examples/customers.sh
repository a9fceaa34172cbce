#!/bin/sh
# A jail for each customer of a list, made when it is first there. Run it as often as you like.
# usage: customers.sh LIST NETWORK      a line of LIST is NAME TIER; NETWORK such as 10.0.0.0/22
set -eu
list=${1:?usage: customers.sh LIST NETWORK} network=${2:?usage: customers.sh LIST NETWORK}
there=$(mktemp)
trap 'rm -f "$there"' EXIT
ezz list --only-names >"$there"

for tier in $(awk '!/^#/ && NF == 2 { print $2 }' "$list" | sort -u); do
    new=$(awk -v tier="$tier" '!/^#/ && NF == 2 && $2 == tier { print $1 }' "$list" | grep -Fxv -f "$there" || true)
    [ -n "$new" ] || continue
    # One command for all of a tier: one transaction, and no address twice.
    printf '%s\n' "$new" | tr '\n' '\0' |
        ezz create --quiet --names-from - --label "tier=$tier" --ip-pool "$network"
    printf '%s\n' "$new" | sed "s/\$/: made, tier $tier/"
done
