#!/bin/sh
# Checks that ezz works on a FreeBSD host: real jail(8), nullfs, devfs, ZFS. It runs on the FreeBSD machine itself, as
# root, with a disk that it may destroy; `vm` and the Vagrant box call it.
#
# usage: scenarios.sh first DISK   a pool `tank` on DISK, a world of the running system's own files, all scenarios
#        scenarios.sh booted       after a reboot: checks what should have started by itself
#
# It needs programs of FreeBSD's base: sh, tar, zfs, zpool, jail, jls, jexec, mount, and reports missing ones. It prints
# a line for each check, then `N passed, M failed`, and exits with 1 if any has failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
ezz=$here/ezz
jails=/usr/jails
# shellcheck source=scenarios/checks.sh
. "$here/scenarios/checks.sh"
# shellcheck source=scenarios/worlds.sh
. "$here/scenarios/worlds.sh"
# shellcheck source=scenarios/jails.sh
. "$here/scenarios/jails.sh"
# shellcheck source=scenarios/host.sh
. "$here/scenarios/host.sh"

needs() {
	for program in tar zfs zpool jail jls jexec mount mount_nullfs devfs awk sed grep; do
		command -v "$program" >/dev/null || {
			echo "scenarios: this system has no $program" >&2
			exit 2
		}
	done
	kldstat -q -m zfs || kldload zfs || exit 2
	uname -a
	zfs version
}

first() {
	needs
	site "$1"
	thin_jail
	other_hands
	bad_luck
	updates
	other_release
	kinds
	releases
	limits
	cpus_and_datasets
	surroundings
	parameters_and_networks
	hardening
	names
	boot
	sync
	finish
}

booted() {
	needs
	say 'after a reboot'
	waited=0
	while [ "$waited" -lt 120 ] && [ "$(jls name | wc -l)" -lt 5 ]; do
		sleep 5
		waited=$((waited + 5))
	done
	ok 'a file that was lost was made again' grep -q '^# Made by ezz' /etc/jail.conf.d/db.conf
	is 'the jails have started by themselves' 'db p1 p2 p3 web ' jail_names
	ok 'one after the jail that it depends on' before p3 p1
	ok 'the other too' before p3 p2
	is 'with their base' "$jails/basejail/1 nullfs ro" base_of web
	is 'list says so' 'running 1' listed db
	ok 'service(8) stops all' service jail stop
	is 'none runs' '' jail_names
	is 'nothing is mounted' 0 jail_mounts
	ok 'and starts all' service jail start
	is 'they run' 'db p1 p2 p3 web ' jail_names
	ok 'stop' "$ezz" stop --all
	is 'nothing runs' '' jail_names
	ok 'doctor finds nothing' quiet_doctor
	ok 'delete' "$ezz" delete web db 'p{1..3}' --yes
	finish
}

case ${1-} in
first) first "$2" ;;
booted) booted ;;
*)
	echo "usage: $0 first DISK | booted" >&2
	exit 2
	;;
esac
