#!/bin/sh
# What a FreeBSD host must do with ezz: real jail(8), nullfs, devfs, ZFS. Run on the FreeBSD machine itself,
# as root, with a disk that it may destroy; `vm` and the Vagrant box call it.
#
# usage: scenarios.sh first DISK   a pool `tank` on DISK, a world of the running system's own files, all scenarios
#        scenarios.sh booted       after a reboot: what should have started by itself
#
# It needs what is in FreeBSD's base: sh, tar, zfs, zpool, jail, jls, jexec, mount, and names what is missing.
# Prints a line for each check, then `N passed, M failed`, and exits 1 if any failed.
# Checks are functions that are called by name, through `ok` and `is`.
# shellcheck disable=SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
ezz=$here/ezz
jails=/usr/jails
log=/tmp/ezz-scenario.log
passed=0
failed=0
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
# ok WHAT COMMAND...: it ends with 0.
ok() {
	what=$1
	shift
	if "$@" >"$log" 2>&1; then yes "$what"; else
		echo "exit $? of: $*" >>"$log"
		no "$what"
	fi
}
# refused WHAT CODE WORDS COMMAND...: it ends with that code, and says these words.
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
# is WHAT EXPECTED COMMAND...: what it prints.
is() {
	what=$1 expected=$2
	shift 2
	found=$("$@" 2>"$log")
	if [ "$found" = "$expected" ]; then yes "$what"; else
		printf 'expected: %s\nfound: %s\n' "$expected" "$found" >>"$log"
		no "$what"
	fi
}
# says WHAT WORDS COMMAND...: it ends with 0, and says these words.
says() {
	what=$1 words=$2
	shift 2
	refused "$what" 0 "$words" "$@"
}
# not WHAT COMMAND...: it ends with another exit status than 0.
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

# The running system's own files as a world: what a jail needs to start.
world() {
	list=
	for path in bin boot/defaults lib libexec sbin usr/bin usr/sbin usr/lib usr/libexec usr/share/misc \
		usr/share/locale usr/share/tabset usr/share/zoneinfo/UTC etc root COPYRIGHT; do
		[ ! -e "/$path" ] || list="$list $path"
	done
	# Empty in every release: what jail(8) mounts on, and what the system writes.
	rm -rf /tmp/ezz-empty
	mkdir /tmp/ezz-empty
	(cd /tmp/ezz-empty && mkdir -p dev proc mnt media tmp var/run var/tmp var/log var/db var/empty usr/local)
	# What only a whole machine has: no jail is to get its secrets or its jails.
	# shellcheck disable=SC2086
	tar -acf "$1" -C / --exclude etc/zfs --exclude etc/jail.conf.d --exclude etc/ssh --exclude 'etc/rc.conf*' \
		--exclude root/.ssh --exclude 'usr/lib/*.a' --exclude 'etc/fstab' --exclude boot/kernel \
		--exclude usr/lib/clang --exclude usr/lib/debug $list -C /tmp/ezz-empty .
}

first() {
	disk=$1
	needs
	say 'a pool and a site'
	ok 'the pool is made' zpool create -f -m none -O atime=off tank "$disk"
	ok 'init' "$ezz" init tank/ezz --directory "$jails"
	ok 'a world of the running system is packed' world /tmp/world.tar
	ok 'install' "$ezz" install /tmp/world.tar --allow-secrets
	rm -f /tmp/world.tar
	# Without a world everything else would fail, and say nothing.
	[ "$failed" -eq 0 ] || finish
	ok 'verify' "$ezz" worlds verify 1
	is 'the base is read-only' on zfs get -Ho value readonly tank/ezz/basejail/1

	say 'a thin jail'
	ok 'create' "$ezz" create web --hostname web.example.org
	is 'it costs no copied file' tank/ezz/newjail/1@1 zfs get -Ho value origin tank/ezz/jails/web
	ok 'start' "$ezz" start web
	is 'the kernel has it' web runs web
	is 'at the path of its dataset' "$jails/web" jls -j web path
	is 'its base is mounted by nullfs, read-only' "$jails/basejail/1 nullfs ro" base_of web
	is 'exec' web.example.org in_jail web /bin/hostname
	refused 'an exit status comes through' 7 '' in_jail web /bin/sh -c 'exit 7'
	not 'its base cannot be written' in_jail web /bin/sh -c 'echo x >/basejail/bin/sh'
	not 'nor through a link' in_jail web /bin/sh -c 'echo x >/bin/sh'
	not 'nor made writable' in_jail web /sbin/mount -u -o rw /basejail
	ok 'what is its own can' in_jail web /bin/sh -c 'echo mine >/etc/own && rm /etc/own'
	is 'it has few devices' '' in_jail web /bin/sh -c 'ls /dev | grep -E "^(mem|kmem|ada|da|vtbd|nda)"'
	is 'it sees its own mount alone' 1 in_jail web /bin/sh -c 'mount | wc -l | tr -d " "'
	is 'list says which base it runs on' 'running 1' listed web
	ok 'start again is nothing' "$ezz" start web
	ok 'restart' "$ezz" restart web
	is 'it is there again' web runs web
	ok 'stop' "$ezz" stop web
	not 'the kernel has it no more' runs web
	is 'nothing is mounted below it' '' mounted_below "$jails/web"
	ok 'stop again is nothing' "$ezz" stop web
	devfs rule -s 4 delset
	refused 'without rules for its devices it does not start' 1 'devfs ruleset 4' "$ezz" start web
	not 'at all' runs web
	ok 'as the hint says' service devfs restart
	ok 'it starts then' "$ezz" start web
	is 'with few devices' '' in_jail web /bin/sh -c 'ls /dev | grep -E "^(mem|kmem|ada|da|vtbd|nda)"'
	ok 'and stops' "$ezz" stop web
	ok 'doctor finds nothing' quiet_doctor

	say 'the same file by other hands'
	ok 'jail(8) starts it from its file' jail -q -f /etc/jail.conf.d/web.conf -c web
	is 'ezz sees that' 'running 1' listed web
	ok 'and jail(8) stops it' jail -q -f /etc/jail.conf.d/web.conf -r web
	is 'nothing is mounted' '' mounted_below "$jails/web"
	ok 'service(8) starts it' service jail onestart web
	is 'it runs' web runs web
	ok 'ezz stops it' "$ezz" stop web
	is 'nothing is mounted then' '' mounted_below "$jails/web"

	say 'bad luck'
	"$ezz" start web >/dev/null
	rm /etc/jail.conf.d/web.fstab
	ok 'a jail whose fstab is lost is stopped' "$ezz" stop web
	is 'all is unmounted' '' mounted_below "$jails/web"
	"$ezz" start web >/dev/null
	rm /etc/jail.conf.d/web.conf
	ok 'a jail whose file is lost is stopped' "$ezz" stop web
	not 'it is gone' runs web
	is 'all is unmounted then' '' mounted_below "$jails/web"
	mount -t nullfs -o ro "$jails/basejail/1" "$jails/web/basejail"
	ok 'a stale mount is no obstacle' "$ezz" start web
	is 'nor is it there twice' 'devfs nullfs ' mounted_below "$jails/web"
	jail -R web
	is 'jail -R leaves mounts' 'devfs nullfs ' mounted_below "$jails/web"
	ok 'which the next start clears away' "$ezz" start web
	is 'none twice' 'devfs nullfs ' mounted_below "$jails/web"
	in_jail web /bin/sh -c 'trap "" TERM HUP INT; (while :; do sleep 1; done) >/dev/null 2>&1 &' >/dev/null 2>&1
	ok 'a process that ignores signals does not keep it' "$ezz" stop web
	not 'it has ended' runs web
	"$ezz" start web >/dev/null
	sh -c "cd $jails/web/basejail && exec sleep 600" &
	user=$!
	sleep 1
	refused 'a mount that somebody uses' 1 'it is in use' "$ezz" stop web
	not 'the jail has ended' runs web
	is 'but nothing goes by force' "$jails/basejail/1 nullfs ro" base_of web
	kill "$user"
	ok 'the next stop goes on' "$ezz" stop web
	is 'and all is unmounted again' '' mounted_below "$jails/web"
	"$ezz" create hangs --start >/dev/null
	in_jail hangs /bin/sh -c 'echo "sleep 100000" >/etc/rc.shutdown'
	ok 'a shutdown that never ends' "$ezz" stop hangs
	not 'ends' runs hangs
	is 'with nothing mounted' '' mounted_below "$jails/hangs"
	ok 'nor kept' "$ezz" delete hangs --yes
	jail -c name=taken path=/ persist
	"$ezz" create taken >/dev/null 2>&1
	refused 'a jail of that name that is not ours' 1 'is not of this site' "$ezz" start taken
	jail -r taken
	ok 'is no obstacle when it is gone' "$ezz" start taken
	refused 'a start whose command fails' 1 'did not start' "$ezz" create nope --param exec.prestart=/usr/bin/false --start
	not 'leaves no jail' runs nope
	is 'and nothing mounted' '' mounted_below "$jails/nope"
	ok 'it can be deleted' "$ezz" delete nope --yes
	"$ezz" create bare >/dev/null
	rm "$jails/bare/etc/pwd.db" "$jails/bare/etc/spwd.db"
	refused 'a jail without users' 1 'did not start' "$ezz" start bare
	not 'leaves no jail either' runs bare
	is 'nor a mount' '' mounted_below "$jails/bare"
	ok 'that one too' "$ezz" delete bare --yes
	"$ezz" create own --param allow.mount --param allow.mount.tmpfs --param enforce_statfs=1 --start >/dev/null
	ok 'a jail mounts something itself' in_jail own /sbin/mount -t tmpfs tmpfs /mnt
	jail -R own
	ok 'and starts again over what keeps the old one dying' "$ezz" start own
	is 'with its own mounts alone' 'devfs nullfs ' mounted_below "$jails/own"
	ok 'it mounts that again' in_jail own /sbin/mount -t tmpfs tmpfs /mnt
	ok 'is stopped' "$ezz" stop own
	is 'and nothing is left mounted' '' mounted_below "$jails/own"
	is 'nor a dying jail' '' dying own
	ok 'nor anything that keeps its dataset' "$ezz" delete own --yes
	ok 'delete stops it' "$ezz" delete taken --yes
	not 'its dataset is gone' zfs list tank/ezz/jails/taken
	not 'its files too' ls /etc/jail.conf.d/taken.conf

	say 'update, roll-out, rollback'
	"$ezz" create db --start >/dev/null
	"$ezz" start web >/dev/null
	ok 'an update in a jail of its own' "$ezz" update --run /bin/sh -c 'echo new >/usr/share/misc/ezz-new'
	not 'running jails keep what they have' in_jail web /bin/cat /usr/share/misc/ezz-new
	is 'they are told' 'running 1' listed web
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
	refused 'a bad update is not swapped in' 1 'ended with 9' "$ezz" update --run /bin/sh -c 'exit 9'
	is 'no jail of it is left' 'db web ' jail_names
	ok 'prune' "$ezz" worlds prune

	other_release

	say 'thick jails, clones, many jails'
	ok 'a thick jail' "$ezz" create fat --thick --start
	ok 'may write its own base' in_jail fat /bin/sh -c 'echo mine >/bin/own'
	in_jail web /bin/sh -c 'echo data >/root/data'
	ok 'a clone of a running jail' "$ezz" clone web copy --start
	is 'has its files' data in_jail copy /bin/cat /root/data
	is 'and a name of its own' copy in_jail copy /bin/hostname
	ok 'two hundred jails' "$ezz" create --count 200 --prefix j
	is 'are there' 200 count_of j
	ok 'ten of them start' "$ezz" start 'j{001..010}'
	is 'they run' 10 running_of j
	ok 'and stop' "$ezz" stop 'j*'
	ok 'and all go' "$ezz" delete 'j*' --yes
	is 'they are gone' 0 count_of j
	ok 'delete a clone' "$ezz" delete copy --yes
	ok 'delete the thick one, whose files have flags' "$ezz" delete fat --yes

	if command -v openssl >/dev/null; then releases; else missing="$missing releases over TLS (no openssl);"; fi

	if [ "$(sysctl -n kern.racct.enable 2>/dev/null)" = 1 ]; then
		say 'limits'
		ok 'create' "$ezz" create small --memory 64M --cpus 0.5 --processes 40 --start
		is 'rctl(8) has them' 3 rules_of small
		ok 'stop' "$ezz" stop small
		is 'they go with it' 0 rules_of small
		ok 'delete' "$ezz" delete small --yes
	else
		refused 'limits that the kernel does not keep' 1 kern.racct.enable "$ezz" create small --memory 64M --start
		"$ezz" delete small --yes >/dev/null 2>&1
		missing="$missing resource limits (kern.racct.enable=0);"
	fi

	say 'processors and datasets of jails'
	ok 'on one processor' "$ezz" create cpu --cpuset 0 --start
	is 'cpuset(1) has it' 1 pinned cpu
	ok 'delete' "$ezz" delete cpu --yes
	# Once it is marked, its mount point is the jail's to set.
	zfs create -u -o mountpoint=/given tank/given
	refused 'a dataset without the mark' 1 'jailed is not on' "$ezz" create own --dataset tank/given
	refused 'a part of the site' 1 'cannot be a jail' "$ezz" create own --dataset tank/ezz/jails
	zfs set jailed=on tank/given
	ok 'a jail with a dataset' "$ezz" create own --dataset tank/given --start
	if in_jail own /bin/sh -c 'test -x /sbin/zfs'; then
		ok 'mounts it' in_jail own /bin/sh -c 'zfs mount tank/given && echo mine >/given/file'
		ok 'makes one below it' in_jail own /sbin/zfs create tank/given/below
		not 'and none beside it' in_jail own /sbin/zfs create tank/other
	else
		missing="$missing what a jail does with a dataset (no zfs in the world);"
	fi
	ok 'stop' "$ezz" stop own
	is 'nothing of it is mounted' 0 mounted_of tank/given
	ok 'start again' "$ezz" start own
	ok 'delete' "$ezz" delete own --yes
	ok 'its dataset stays' zfs list tank/given
	zfs destroy -r tank/given

	say 'what jails run into'
	ifconfig lo0 inet 127.7.0.1/32 alias
	says 'an address that no interface has' 'no interface of this host has 127.7.0.9' "$ezz" create lost --address 127.7.0.9
	says 'an interface that is not there' 'no interface none0' "$ezz" create none --address 'none0|127.7.0.8/32'
	says 'an address that the host has already' 'loses it when the jail stops' "$ezz" create twin --address 'lo0|127.7.0.1/32'
	refused 'an address that another jail has' 1 "is the jail twin's" "$ezz" create second --address 127.7.0.1
	ok 'delete all of them' "$ezz" delete lost none twin --yes
	if command -v nc >/dev/null && command -v sockstat >/dev/null; then
		nc -l -k 7777 >/dev/null 2>&1 &
		everywhere=$!
		nc -l -k 127.7.0.1 7778 >/dev/null 2>&1 &
		there=$!
		sleep 2
		says 'what listens everywhere' 'on all addresses of this host, theirs too, listen .*tcp 7777 (nc)' "$ezz" create heard --address 127.7.0.1
		says 'what listens there' 'on 127.7.0.1 listen .*tcp 7778 (nc)' "$ezz" start heard
		kill "$everywhere" "$there"
		ok 'stop' "$ezz" stop heard
	else
		missing="$missing what listens (no nc or sockstat);"
		ok 'a jail with an address' "$ezz" create heard --address 127.7.0.1
	fi
	jail -c name=stranger path=/ ip4.addr=127.7.0.1 persist
	says 'the address of a jail that is not of this site' 'address of several: .*stranger' "$ezz" start heard
	jail -r stranger
	ok 'delete' "$ezz" delete heard --yes
	ifconfig lo0 inet 127.7.0.1 -alias

	say 'parameters and networks of jails'
	ok 'parameters' "$ezz" create par --param allow.raw_sockets --param children.max=5 --param exec.poststart='touch /tmp/ezz-poststart' --start
	is 'the kernel has them' 5 jls -j par children.max
	is 'flags too' true jls -j par allow.raw_sockets
	ok 'jail(8) ran the command' test -e /tmp/ezz-poststart
	refused 'an unknown one' 1 'jail parameters allow.everything' "$ezz" create bad --param allow.everything
	not 'makes nothing' zfs list tank/ezz/jails/bad
	ok 'delete' "$ezz" delete par --yes
	if [ "$(sysctl -n kern.features.vimage 2>/dev/null)" = 1 ]; then
		ifconfig bridge create name bridge7 >/dev/null
		ok 'a network of its own' "$ezz" create net --network vnet --address 'bridge7|10.9.0.2/24' --address 'bridge7|fd00::9/64' --start
		is 'has its addresses' '10.9.0.2 fd00::9' addresses_of net
		is 'and not those of the host' 1 in_jail net /bin/sh -c 'ifconfig -l | tr " " "\n" | grep -c "^ez"'
		is 'the other end is on the bridge' 1 members_of bridge7
		ok 'restart' "$ezz" restart net
		is 'one pair' 1 members_of bridge7
		jail -R net
		ok 'it starts over what was left' "$ezz" start net
		is 'one pair still' 1 members_of bridge7
		ok 'delete' "$ezz" delete net --yes
		is 'the pair is gone' 0 pairs
		refused 'a bridge that is not there' 1 'did not start' "$ezz" create net --network vnet --address 'nobridge|10.9.0.2/24' --start
		"$ezz" delete net --yes >/dev/null 2>&1
		is 'no pair is left of it' 0 pairs
		ifconfig bridge7 destroy
	else
		missing="$missing networks of jails (no vimage);"
	fi

	say 'boot'
	boots
	ok 'jails that depend on another' "$ezz" apply /tmp/ezz-fleet.toml
	is 'whose files say so' 2 dependents_of p3
	ok 'doctor knows that they start at boot' doctor_says '^ok +start at boot'
	ok 'and that rc.d/jail is enabled in a file of its own' doctor_says '^ok +jail_enable'
	"$ezz" stop --all >/dev/null 2>&1
	is 'nothing runs' '' jail_names
	sync
	finish
}

# Own files of a jail are merged, and the databases that are made from them.
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

# From a mirror of our own, whose authority is trusted for as long.
releases() {
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
	kill "$mirror"
	rm -rf /tmp/mirror
}

from_mirror() {
	authority=$1
	shift
	SSL_CERT_FILE=$authority "$ezz" install 15.0-RELEASE --mirror https://127.0.0.1:4433 --set base --allow-secrets "$@"
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
# Its other line is of memory domains.
pinned() { cpuset -g -j "$1" | grep -v domain | grep -c 'mask: 0$'; }
dependents_of() { grep -l "^ *depend = .*$1" /etc/jail.conf.d/*.conf | wc -l | tr -d ' '; }
# before A B: the kernel made the jail A first.
before() { [ "$(jls -j "$1" jid)" -lt "$(jls -j "$2" jid)" ]; }
mounted_of() { mount -p | grep -c "^$1"; }
rules_of() { rctl "jail:$1" | wc -l | tr -d ' '; }
# Warnings are of the machine, e.g. that nothing is enabled at boot yet.
quiet_doctor() { doctor_says 'tank/ezz: nothing to mend'; }
# doctor_says PATTERN: a line of it; else all of it is in the log.
doctor_says() {
	"$ezz" doctor >/tmp/ezz-doctor.log 2>&1
	cat /tmp/ezz-doctor.log
	grep -Eq "$1" /tmp/ezz-doctor.log
}

# What an administrator does once.
boots() {
	mkdir -p /usr/local/etc/rc.d
	sed 's|@PREFIX@|/usr/local|' "$here/rc.d" >/usr/local/etc/rc.d/ezz
	chmod 555 /usr/local/etc/rc.d/ezz
	mkdir -p /usr/local/sbin
	cp "$ezz" /usr/local/sbin/ezz
	cat >>/etc/rc.conf <<-END
		zfs_enable="YES"
		ezz_enable="YES"
		jail_parallel_start="YES"
	END
	mkdir -p /etc/rc.conf.d
	echo 'jail_enable="YES"' >/etc/rc.conf.d/jail
	echo '.include "/etc/jail.conf.d/*.conf";' >>/etc/jail.conf
	cat >/tmp/ezz-fleet.toml <<-END
		fleet = "parallel"
		[[jail]]
		name = "p{1..2}"
		depends = ["p3"]
		[[jail]]
		name = "p3"
	END
	# A derived file that is lost is made again before the jails start.
	rm -f /etc/jail.conf.d/db.conf
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
