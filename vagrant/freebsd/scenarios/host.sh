# What the host gives to jails or keeps from them, and the start of jails at boot. This file uses variables of
# scenarios.sh.
# shellcheck shell=sh disable=SC2154

limits() {
	say 'limits'
	if [ "$(sysctl -n kern.racct.enable 2>/dev/null)" = 1 ]; then
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
}

cpus_and_datasets() {
	say 'processors and datasets of jails'
	ok 'on one processor' "$ezz" create cpu --cpuset 0 --start
	is 'cpuset(1) has it' 1 pinned cpu
	ok 'delete' "$ezz" delete cpu --yes
	# Once the dataset is marked, the jail may set its mount point.
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
}

surroundings() {
	say 'what jails run into'
	ifconfig lo0 inet 127.7.0.1/32 alias
	says 'an address that no interface has' 'no interface of this host has 127.7.0.9' "$ezz" create lost --address 127.7.0.9
	says 'an interface that is not there' 'no interface none0' "$ezz" create none --address 'none0|127.7.0.8/32'
	says 'an address that the host has already' 'loses it when the jail stops' "$ezz" create twin --address 'lo0|127.7.0.1/32'
	refused 'an address that another jail has' 1 "belongs to the jail twin" "$ezz" create second --address 127.7.0.1
	ok 'delete all of them' "$ezz" delete lost none twin --yes
	if command -v nc >/dev/null && command -v sockstat >/dev/null; then
		nc -l -k 7777 >/dev/null 2>&1 &
		everywhere=$!
		nc -l -k 127.7.0.1 7778 >/dev/null 2>&1 &
		there=$!
		sleep 2
		says 'what listens everywhere' 'services listen on every address of this host, including those of the jails: .*tcp 7777 (nc)' "$ezz" create heard --address 127.7.0.1
		says 'what listens there' 'services listen on 127.7.0.1: .*tcp 7778 (nc)' "$ezz" start heard
		kill "$everywhere" "$there"
		ok 'stop' "$ezz" stop heard
	else
		missing="$missing what listens (no nc or sockstat);"
		ok 'a jail with an address' "$ezz" create heard --address 127.7.0.1
	fi
	jail -c name=stranger path=/ ip4.addr=127.7.0.1 persist
	says 'the address of a jail that is not of this site' 'several have this address: .*stranger' "$ezz" start heard
	jail -r stranger
	ok 'delete' "$ezz" delete heard --yes
	ifconfig lo0 inet 127.7.0.1 -alias
}

parameters_and_networks() {
	say 'parameters and networks of jails'
	ok 'parameters' "$ezz" create par --param persist --param allow.raw_sockets --param children.max=5 --param exec.poststart='touch /tmp/ezz-poststart' --start
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
		refused 'a bridge that is not there' 1 'lacks the bridge nobridge' "$ezz" create net --network vnet --address 'nobridge|10.9.0.2/24' --start
		"$ezz" delete net --yes >/dev/null 2>&1
		is 'no pair is left of it' 0 pairs
		ifconfig bridge7 destroy
	else
		missing="$missing networks of jails (no vimage);"
	fi
}

# Prints the kernel's values of a jail for the settings of jail.conf for all jails, and whether its command was run.
hardened() {
	jls -j "$1" -n allow.raw_sockets securelevel
	ls "/tmp/ezz-poststart-$1" 2>/dev/null
	rm -f "/tmp/ezz-poststart-$1"
}

hardening() {
	say 'what jail.conf says of all jails'
	[ ! -e /etc/jail.conf ] || cp /etc/jail.conf /tmp/ezz-jail.conf
	ok 'a jail' "$ezz" create hard --start
	cat >/etc/jail.conf <<-'END'
		allow.raw_sockets;
		* { securelevel = 2; exec.poststart = "touch /tmp/ezz-poststart-$name"; }
		.include "/etc/jail.conf.d/*.conf";
	END
	ok 'doctor compares what runs' doctor_says 'jail hard: its running parameters differ .*securelevel is -1, not 2'
	ok 'stop' "$ezz" stop hard
	service jail onestart hard >/dev/null
	by_service=$(hardened hard)
	is 'service(8) starts it with them' "allow.raw_sockets securelevel=2
/tmp/ezz-poststart-hard" printf '%s\n' "$by_service"
	ok 'restart by ezz' "$ezz" restart hard
	is 'it has the same' "$by_service" hardened hard
	ok 'service(8) stops it' service jail onestop hard
	not 'it has ended' runs hard
	is 'with nothing mounted' '' mounted_below "$jails/hard"
	echo '* {' >>/etc/jail.conf
	refused 'a jail.conf that nobody can read' 1 'jail.conf: line' "$ezz" start hard
	not 'starts nothing' runs hard
	rm /etc/jail.conf
	[ ! -e /tmp/ezz-jail.conf ] || mv /tmp/ezz-jail.conf /etc/jail.conf
	ok 'delete' "$ezz" delete hard --yes
}

names() {
	say 'names that are taken'
	ok 'a jail' "$ezz" create mine
	ok 'a second site' "$ezz" init tank/two --directory /usr/jails2
	refused 'has not the names of the first' 1 'the name mine is taken' "$ezz" --site tank/two create mine
	zfs destroy -r tank/two
	rmdir /usr/jails2
	ok 'start' "$ezz" start mine
	zfs destroy -rf tank/ezz/jails/mine
	ok 'a jail without its dataset: doctor names jail(8)' doctor_says '.jail -R mine. ends it'
	jail -R mine
	ok 'and clears away the rest' "$ezz" doctor --repair
	is 'nothing is mounted' '' mounted_below "$jails/mine"
}

# Does what an administrator does once.
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
	# A lost derived file is created again before the jails start.
	rm -f /etc/jail.conf.d/db.conf
}

boot() {
	say 'boot'
	boots
	ok 'jails that depend on another' "$ezz" apply /tmp/ezz-fleet.toml
	is 'whose files say so' 2 dependents_of p3
	ok 'doctor knows that they start at boot' doctor_says '^ok +start at boot'
	ok 'and that rc.d/jail is enabled in a file of its own' doctor_says '^ok +jail_enable'
	"$ezz" stop --all >/dev/null 2>&1
	is 'nothing runs' '' jail_names
}
