#!/bin/sh
# Installs and runs vagrant/freebsd/scenarios.sh on a FreeBSD machine that may be modified without care. It runs as root
# on the machine itself. vagrant/machines/run calls it in this order, and reboots after each of the first two:
#
#   freebsd.sh install   /tmp/ezz.tar (ezz, the scenarios, rc.d, this file) is unpacked in /var/ezz; limits are enabled
#   freebsd.sh first     the scenarios, with a pool on the empty disk
#   freebsd.sh booted    checks what should have started by itself
#   freebsd.sh disk      prints the name of that disk, for the tests
#
# Nothing is downloaded: ezz was built elsewhere, and the scenarios need only FreeBSD's base.
set -eu
at=/var/ezz

# Prints the only empty disk: it has no partitions, and no file system that fstyp(8) knows.
disk() {
	found=
	for name in $(sysctl -n kern.disks); do
		case $name in cd* | md*) continue ;; esac
		if gpart show "$name" >/dev/null 2>&1 || fstyp "/dev/$name" >/dev/null 2>&1; then continue; fi
		found="$found /dev/$name"
	done
	# shellcheck disable=SC2086
	set -- $found
	if [ $# -ne 1 ]; then
		echo "freebsd.sh: one empty disk is wanted for the pool, there are $#: ${*:-none}" >&2
		exit 2
	fi
	echo "$1"
}

case ${1-} in
install)
	mkdir -p "$at"
	tar -xf /tmp/ezz.tar -C "$at"
	# Only the loader reads this file, hence the reboot: without the setting the kernel enforces no limits.
	grep -q '^kern.racct.enable=' /boot/loader.conf 2>/dev/null || echo 'kern.racct.enable=1' >>/boot/loader.conf
	;;
first)
	pool=$(disk)
	exec sh "$at/scenarios.sh" first "$pool"
	;;
booted) exec sh "$at/scenarios.sh" booted ;;
disk) disk ;;
*)
	echo "usage: $0 install | first | booted | disk" >&2
	exit 2
	;;
esac
