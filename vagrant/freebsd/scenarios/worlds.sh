# Worlds: from the running system's own files, an update, another release, a mirror. This file uses variables of
# scenarios.sh.
# shellcheck shell=sh disable=SC2154

# Packs the running system's own files as a world: what a jail needs to start.
world() {
	list=
	for path in bin boot/defaults lib libexec sbin usr/bin usr/sbin usr/lib usr/libexec usr/share/misc \
		usr/share/locale usr/share/tabset usr/share/zoneinfo/UTC etc root COPYRIGHT; do
		[ ! -e "/$path" ] || list="$list $path"
	done
	# Empty in every release: directories that jail(8) mounts on, and those that the system writes to.
	rm -rf /tmp/ezz-empty
	mkdir /tmp/ezz-empty
	(cd /tmp/ezz-empty && mkdir -p dev proc mnt media tmp var/run var/tmp var/log var/db var/empty usr/local)
	# Files of the whole machine: no jail may get its secrets or its jails.
	# shellcheck disable=SC2086
	tar -acf "$1" -C / --exclude etc/zfs --exclude etc/jail.conf.d --exclude etc/ssh --exclude 'etc/rc.conf*' \
		--exclude root/.ssh --exclude 'usr/lib/*.a' --exclude 'etc/fstab' --exclude boot/kernel \
		--exclude usr/lib/clang --exclude usr/lib/debug $list -C /tmp/ezz-empty .
}

site() {
	say 'a pool and a site'
	ok 'the pool is made' zpool create -f -m none -O atime=off tank "$1"
	ok 'init' "$ezz" init tank/ezz --directory "$jails"
	ok 'a world of the running system is packed' world /tmp/world.tar
	ok 'install' "$ezz" install /tmp/world.tar --allow-secrets
	rm -f /tmp/world.tar
	# Without a world every other check would fail without meaning.
	[ "$failed" -eq 0 ] || finish
	ok 'verify' "$ezz" world verify 1
	# Enough of a Debian for its profile.
	rm -rf /tmp/ezz-linux
	mkdir -p /tmp/ezz-linux/etc /tmp/ezz-linux/usr/bin /tmp/ezz-linux/var/lib/dpkg
	for path in etc/debian_version usr/bin/dpkg var/lib/dpkg/status; do
		: >"/tmp/ezz-linux/$path"
	done
	refused 'a world of Linux' 1 'needs Linux, but this host runs FreeBSD' "$ezz" install /tmp/ezz-linux
	rm -rf /tmp/ezz-linux
	is 'the base is read-only' on zfs get -Ho value readonly tank/ezz/basejail/1
}

updates() {
	say 'update, roll-out, rollback'
	"$ezz" create db --start >/dev/null
	"$ezz" start web >/dev/null
	ok 'an update in a jail of its own' "$ezz" update --run /bin/sh -c 'echo new >/usr/share/misc/ezz-new'
	not 'running jails keep what they have' in_jail web /bin/cat /usr/share/misc/ezz-new
	is 'they are told' 'running 1' listed web
	# This check has not run on FreeBSD yet: the stand-ins of tests/hosts have `started_by_others`.
	ok 'service(8) restarts one' service jail onerestart web
	is 'on the base that its own files are of' "$jails/basejail/1 nullfs ro" base_of web
	is 'it is told still' 'running 1' listed web
	ok 'converge' "$ezz" converge web --health 'true'
	is 'one has it' new in_jail web /bin/cat /usr/share/misc/ezz-new
	is 'it runs on the new one' 'running 2' listed web
	is 'the other has not' 'running 1' listed db
	ok 'a roll-out to all' "$ezz" update --swap 2 --restart
	"$ezz" converge >/dev/null 2>&1
	is 'all have it' 'running 2' listed db
	ok 'rollback' "$ezz" rollback --restart
	is 'all are back' 'running 1' listed web
	not 'the file is gone' in_jail web /bin/cat /usr/share/misc/ezz-new
	refused 'a bad update is not swapped in' 1 'exited with status 9' "$ezz" update --run /bin/sh -c 'exit 9'
	is 'no jail of it is left' 'db web ' jail_names
	ok 'prune' "$ezz" world prune --yes
}

# Own files of a jail are merged, and the databases that are built from them.
other_release() {
	say 'another release'
	zfs create -o mountpoint=/tmp/release tank/release
	world /tmp/release.tar && tar -xf /tmp/release.tar -C /tmp/release
	rm -f /tmp/release.tar
	sed -i '' 's/^USERLAND_VERSION=.*/USERLAND_VERSION="14.0-RELEASE"/' /tmp/release/bin/freebsd-version
	echo 'ezzworld:*:7001:7001::0:0:Of the world:/nonexistent:/usr/sbin/nologin' >>/tmp/release/etc/master.passwd
	echo 'ezzworld:*:7001:' >>/tmp/release/etc/group
	pwd_mkdb -d /tmp/release/etc /tmp/release/etc/master.passwd
	ok 'a jail' "$ezz" create old --start
	ok 'has a user of its own' in_jail old /usr/sbin/pw useradd ezzown -u 7002
	ok 'a release from a directory' "$ezz" update --from /tmp/release --allow-secrets
	not 'its users are not there yet' in_jail old /usr/bin/getent passwd ezzworld
	ok 'converge merges' "$ezz" converge old
	is 'the jail runs that release' 14.0-RELEASE in_jail old /bin/freebsd-version
	ok 'has its user' in_jail old /usr/bin/getent passwd ezzworld
	ok 'and its own' in_jail old /usr/bin/getent passwd ezzown
	ok 'both are in its files' in_jail old /bin/sh -c 'grep ezzworld /etc/passwd && grep ezzown /etc/group'
	ok 'rollback' "$ezz" rollback
	ok 'converge merges back' "$ezz" converge old
	not 'the user of that release is gone' in_jail old /usr/bin/getent passwd ezzworld
	ok 'its own is not' in_jail old /usr/bin/getent passwd ezzown
	ok 'delete' "$ezz" delete old --yes
	zfs destroy tank/release
}

# Releases from a mirror of our own, whose certificate authority is trusted meanwhile.
releases() {
	command -v openssl >/dev/null || {
		missing="$missing releases over TLS (no openssl);"
		return
	}
	say 'a release over TLS'
	at=/tmp/mirror/$(uname -m)/$(uname -p)/15.0-RELEASE
	rm -rf /tmp/mirror
	mkdir -p "$at"
	ok 'a set is packed' world "$at/base.txz"
	printf 'base.txz\t%s\n' "$(sha256 -q "$at/base.txz")" >"$at/MANIFEST"
	ok 'a mirror has a certificate' openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mirror \
		-addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
		-keyout /tmp/mirror/key.pem -out /tmp/mirror/cert.pem
	(cd /tmp/mirror && exec openssl s_server -WWW -accept 4433 -cert cert.pem -key key.pem >/dev/null 2>&1) &
	mirror=$!
	sleep 3
	refused 'a mirror whose authority nobody knows' 1 certificate from_mirror /dev/null --track tls
	says 'the set is fetched, verified and installed' ': sealed' from_mirror /tmp/mirror/cert.pem --track tls
	mv "$at/base.txz" "$at/kept"
	says 'from then on it is in the cache' ': sealed' from_mirror /tmp/mirror/cert.pem --track cached
	mv "$at/kept" "$at/base.txz"
	printf 'base.txz\t%064d\n' 7 >"$at/MANIFEST"
	refused 'one that is not what its manifest says' 1 'SHA-256' from_mirror /tmp/mirror/cert.pem --track bad
	ok 'a track that no jail follows goes' "$ezz" track delete cached
	not 'with its link' test -L "$jails/basejail/tracks/cached"
	kill "$mirror"
	rm -rf /tmp/mirror
}

from_mirror() {
	authority=$1
	shift
	SSL_CERT_FILE=$authority "$ezz" install 15.0-RELEASE --mirror https://127.0.0.1:4433 --set base --allow-secrets "$@"
}
