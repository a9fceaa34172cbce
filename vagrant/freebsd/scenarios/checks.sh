# The checks of the scenarios: each prints a line and is counted. And functions that read the system's state. This file
# uses variables of scenarios.sh.
# shellcheck shell=sh disable=SC2154
# Checks are functions that are called by name, through `ok` and `is`.
# shellcheck disable=SC2317

log=/tmp/ezz-scenario.log
passed=0
failed=0
# What this system lacks, with the checks that were therefore left out.
missing=

say() { printf '== %s\n' "$*"; }
yes() {
	passed=$((passed + 1))
	printf 'ok      %s\n' "$1"
}
no() {
	failed=$((failed + 1))
	printf 'not ok  %s\n' "$1"
	[ ! -s "$log" ] || sed 's/^/        | /' "$log" | tail -n 20
}
# ok WHAT COMMAND...: the command exits with 0.
ok() {
	what=$1
	shift
	if "$@" >"$log" 2>&1; then yes "$what"; else
		echo "exit $? of: $*" >>"$log"
		no "$what"
	fi
}
# refused WHAT CODE WORDS COMMAND...: the command exits with that code, and prints these words.
refused() {
	what=$1 wanted=$2 words=$3
	shift 3
	"$@" >"$log" 2>&1
	code=$?
	if [ "$code" -eq "$wanted" ] && { [ -z "$words" ] || grep -q -- "$words" "$log"; }; then yes "$what"; else
		echo "exit $code, not $wanted with \"$words\", of: $*" >>"$log"
		no "$what"
	fi
}
# is WHAT EXPECTED COMMAND...: the command prints exactly this.
is() {
	what=$1 expected=$2
	shift 2
	found=$("$@" 2>"$log")
	if [ "$found" = "$expected" ]; then yes "$what"; else
		printf 'expected: %s\nfound: %s\n' "$expected" "$found" >>"$log"
		no "$what"
	fi
}
# says WHAT WORDS COMMAND...: the command exits with 0, and prints these words.
says() {
	what=$1 words=$2
	shift 2
	refused "$what" 0 "$words" "$@"
}
# not WHAT COMMAND...: the command exits with another status than 0.
not() {
	what=$1
	shift
	if "$@" >"$log" 2>&1; then
		echo "exit 0 of: $*" >>"$log"
		no "$what"
	else yes "$what"; fi
}
in_jail() {
	name=$1
	shift
	"$ezz" exec "$name" -- "$@"
}
runs() { jls -j "$1" name; }
mounted_below() { mount -p | awk -v at="$1/" 'index($2, at) == 1 { print $3 }' | sort | tr '\n' ' '; }
jail_mounts() { mount -p | awk -v at="$jails/" 'index($2, at) == 1 && $3 != "zfs"' | wc -l | tr -d ' '; }
finish() {
	[ -z "$missing" ] || printf 'left out, since this system has none: %s\n' "$missing"
	printf '%s passed, %s failed\n' "$passed" "$failed"
	[ "$failed" -eq 0 ]
	exit
}

base_of() { mount -p | awk -v at="$jails/$1/basejail" '$2 == at { print $1, $3, $4 }'; }
listed() { "$ezz" list --json | sed -n "s/^.*\"jail\":\"$1\".*\"state\":\"\([a-z]*\)\".*\"generation\":\([0-9]*\).*$/\1 \2/p"; }
jail_names() { jls name | sort | tr '\n' ' '; }
count_of() { zfs list -Ho name -r tank/ezz/jails | grep -c "/$1[0-9]"; }
running_of() { jls name | grep -c "^$1[0-9]"; }
addresses_of() { in_jail "$1" /sbin/ifconfig | awk '$1 == "inet" && $2 !~ /^127/ || $1 == "inet6" && $2 ~ /^fd/ { print $2 }' | tr '\n' ' ' | sed 's/ $//'; }
members_of() { ifconfig "$1" | grep -c 'member: ez'; }
dying() { jls -d -j "$1" name 2>/dev/null; }
pairs() { ifconfig -l | tr ' ' '\n' | grep -c '^ez'; }
# The other line of cpuset(1) is about memory domains.
pinned() { cpuset -g -j "$1" | grep -v domain | grep -c 'mask: 0$'; }
dependents_of() { grep -l "^ *depend = .*$1" /etc/jail.conf.d/*.conf | wc -l | tr -d ' '; }
# before A B: the kernel created the jail A first.
before() { [ "$(jls -j "$1" jid)" -lt "$(jls -j "$2" jid)" ]; }
mounted_of() { mount -p | grep -c "^$1"; }
rules_of() { rctl "jail:$1" | wc -l | tr -d ' '; }
# Warnings concern the machine, e.g. that nothing is enabled at boot yet.
quiet_doctor() { doctor_says 'tank/ezz: nothing to mend'; }
# doctor_says PATTERN: a line of doctor's output matches; otherwise the whole output is in the log.
doctor_says() {
	"$ezz" doctor >/tmp/ezz-doctor.log 2>&1
	cat /tmp/ezz-doctor.log
	grep -Eq "$1" /tmp/ezz-doctor.log
}
