# Jails: started and stopped by ezz and by others, faults, kinds of jails, many jails. This file uses variables of
# scenarios.sh.
# shellcheck shell=sh disable=SC2154

thin_jail() {
	say 'a thin jail'
	ok 'create' "$ezz" create web --hostname web.example.org
	is 'it costs no copied file' tank/ezz/newjail/1@1 zfs get -Ho value origin tank/ezz/jails/web
	ok 'start' "$ezz" start web
	is 'the kernel has it' web runs web
	is 'at the path of its dataset' "$jails/web" jls -j web path
	is 'its base is mounted by nullfs, read-only' "$jails/basejail/1 nullfs ro" base_of web
	is 'exec' web.example.org in_jail web /bin/hostname
	refused 'an exit status comes through' 7 '' in_jail web /bin/sh -c 'exit 7'
	refused 'a command that is not there' 127 'not found' in_jail web nosuch
	refused 'one that cannot be executed' 126 '' in_jail web /etc/passwd
	refused 'a directory that is not there' 126 '' "$ezz" exec --directory /nosuch web -- /bin/hostname
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
}

other_hands() {
	say 'the same file by other hands'
	ok 'jail(8) starts it from its file' jail -q -f /etc/jail.conf.d/web.conf -c web
	is 'ezz sees that' 'running 1' listed web
	ok 'and jail(8) stops it' jail -q -f /etc/jail.conf.d/web.conf -r web
	is 'nothing is mounted' '' mounted_below "$jails/web"
	ok 'service(8) starts it' service jail onestart web
	is 'it runs' web runs web
	ok 'ezz stops it' "$ezz" stop web
	is 'nothing is mounted then' '' mounted_below "$jails/web"
}

bad_luck() {
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
	says 'a process that ignores signals does not keep it' ' killed: ' "$ezz" stop web
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
	"$ezz" start web >/dev/null
	"$ezz" exec web -- /bin/sleep 600 &
	session=$!
	sleep 2
	kill -STOP "$session"
	ok 'a session that is suspended does not keep it' "$ezz" stop web
	not 'it has ended, too' runs web
	ok 'and starts over what keeps the old one dying' "$ezz" start web
	is 'it runs with its own mounts' 'devfs nullfs ' mounted_below "$jails/web"
	ok 'and stops' "$ezz" stop web
	kill -CONT "$session"
	wait "$session"
	"$ezz" create hangs --start >/dev/null
	in_jail hangs /bin/sh -c 'echo "sleep 100000" >/etc/rc.shutdown'
	ok 'a shutdown that never ends' "$ezz" stop hangs
	not 'ends' runs hangs
	is 'with nothing mounted' '' mounted_below "$jails/hangs"
	ok 'nor kept' "$ezz" delete hangs --yes
	"$ezz" create slow >/dev/null
	mkdir -p "$jails/slow/usr/local/etc/rc.d"
	printf '%s\n' '#!/bin/sh' '# PROVIDE: slow' 'sleep 100000' >"$jails/slow/usr/local/etc/rc.d/slow"
	chmod 755 "$jails/slow/usr/local/etc/rc.d/slow"
	"$ezz" start slow >/tmp/slow.said 2>&1 &
	start=$!
	sleep 60
	says 'a start that never ends is seen' 'starting' "$ezz" list slow
	says 'and ended by a stop' 'ending the start of slow by pid ' "$ezz" stop slow
	wait "$start"
	not 'nothing runs' runs slow
	is 'and nothing is mounted' '' mounted_below "$jails/slow"
	ok 'it says who has ended it' grep -q 'the start of slow was interrupted by pid ' /tmp/slow.said
	ok 'and can be deleted' "$ezz" delete slow --yes
	"$ezz" create taken >/dev/null 2>&1
	jail -c name=taken path=/ persist
	refused 'a new jail of a name that runs' 1 'the name taken is taken' "$ezz" create other taken
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
}

kinds() {
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
}
