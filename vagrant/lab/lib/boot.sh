# shellcheck shell=bash
# Boots the kernel with one command, and returns its output and exit status; time limit, power cut. This file must not
# contain what the guest does (guest/init.c) or what is built (kernel.sh, packages.sh).

BOOT_DIR=      # the request of the running guest (see guest/init.c)
BOOT_PID=      # leader of the guest's process group
BOOT_DISKS=()  # copies that go when the guest has gone

# Sets the defaults of the options of run; parse_boot reads the options.
boot_defaults() {
    opt_pool=none opt_mem=2048M opt_timeout=600 opt_golden='' opt_after='' opt_mark='' opt_tty='' opt_cwd=$PWD
    opt_disks=() opt_inputs=() opt_size=8G opt_args=()
}

parse_boot() {
    boot_defaults
    while [ $# -gt 0 ]; do
        case $1 in
            --pool | --mem | --timeout | --golden | --after | --mark | --cwd | --disk | --input | --size)
                [ $# -ge 2 ] || die "$1 wants a value"
                case $1 in
                    --disk) opt_disks+=("$2") ;;
                    --input) opt_inputs+=("$2") ;;
                    *) printf -v "opt_${1#--}" %s "$2" ;;
                esac
                shift 2
                ;;
            --)
                shift
                break
                ;;
            -*) die "unknown option $1 (see: $LAB_DIR/lab help)" ;;
            *) break ;;
        esac
    done
    opt_args=("$@")
    case $opt_pool in tmpfs | disk | import | none) ;; *) die "--pool is tmpfs, disk, import or none" ;; esac
}

# Prints the environment that the command sees: an allow-list, so that a test does not depend on the developer's shell.
guest_environment() {
    local name
    printf '%s\0' PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/run/home USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 TMPDIR=/tmp EZZ_LAB_GUEST=1 \
        "TERM=${TERM:-dumb}"
    while IFS= read -r name; do
        case $name in
            EZZ_LAB_GUEST | EZZ_LAB_CACHE | EZZ_LAB_OUT) ;;
            EZZ_* | RUST_* | NEXTEST | NEXTEST_* | CARGO_* | INSTA_* | PROPTEST_* | CI | NO_COLOR)
                printf '%s=%s\0' "$name" "${!name}"
                ;;
        esac
    done < <(compgen -e)
    printf 'EZZ_LAB_CACHE=%s\0' "$LAB_CACHE"
    if [ -z "${EZZ_LAB_WORLD:-}" ] && [ -e "$(world_file)" ]; then
        printf 'EZZ_LAB_WORLD=%s\0' "$(world_file)"
    fi
    if [ -z "${EZZ_LAB_INITS:-}" ] && [ -e "$(inits_file)" ]; then
        printf 'EZZ_LAB_INITS=%s\0' "$(inits_file)"
    fi
    if [ -z "${EZZ_LAB_SERVICES:-}" ] && [ -e "$(services_directory)" ]; then
        printf 'EZZ_LAB_SERVICES=%s\0' "$(services_directory)"
    fi
    [ -z "${EZZ_LAB_OUT:-}" ] || printf 'EZZ_LAB_OUT=/mnt/out\0'
}

boot_request() {
    mkdir -p "$LAB_CACHE/run"
    BOOT_DIR=$(mktemp -d "${TMPDIR:-/tmp}/ezz-lab.XXXXXX") || die "cannot make a directory in ${TMPDIR:-/tmp}"
    guest_environment >"$BOOT_DIR/env"
    printf '%s\0' "${opt_args[@]}" >"$BOOT_DIR/argv"
    {
        printf 'userland %s\ncwd %s\npool %s\n' "$(readlink -f "$(userland_link)")" \
            "$opt_cwd" "$opt_pool"
        [ "$(id -u)" -eq 0 ] || printf 'owner %s\n' "$(id -u)"
        [ -z "${EZZ_LAB_OUT:-}" ] || printf 'out %s\n' "$(readlink -f "$EZZ_LAB_OUT")"
        [ -z "$opt_tty" ] || printf 'tty %s\n' "$(stty size 2>/dev/null || echo 24 80)"
    } >"$BOOT_DIR/conf"
}

# Kills the whole group: the leader's children hold the memory file and the disk's lock.
boot_kill() {
    [ -n "$BOOT_PID" ] || return 0
    kill -KILL -- "-$BOOT_PID" 2>/dev/null || true
}

boot_clean() {
    boot_kill
    local disk
    for disk in ${BOOT_DISKS[@]+"${BOOT_DISKS[@]}"}; do
        rm -f "$disk"
    done
    [ -z "$BOOT_DIR" ] || rm -rf "$BOOT_DIR"
}

boot_arguments() {
    local disk n=0
    printf '%s\n' "mem=$opt_mem" root=/dev/root rootfstype=hostfs rootflags=/ ro init="$(guest_init)" \
        quiet loglevel=4 panic=1 oops=panic "uml_dir=$BOOT_DIR/" umid=u "lab=$BOOT_DIR" con=null ssl=null \
        console=ttyS2 ssl2=null,fd:3 random.trust_cpu=on seccomp=auto
    if [ -n "$opt_tty" ]; then
        printf '%s\n' con0=fd:0,fd:1
    else
        printf '%s\n' ssl0=null,fd:1 ssl1=null,fd:2
    fi
    for disk in ${opt_disks[@]+"${opt_disks[@]}"}; do
        [ -w "$disk" ] || die "no disk image $disk that can be written"
        printf '%s\n' "ubd$n=$(readlink -f "$disk")"
        n=$((n + 1))
    done
}

# Starts the guest in its own process group. Its output goes to our stdout and stderr through pipes, because the kernel
# makes its output non-blocking, which a terminal must not become.
boot_start() {
    local arguments=()
    mapfile -t arguments < <(boot_arguments)
    [ "${#arguments[@]}" -gt 3 ] || exit 125
    mkfifo "$BOOT_DIR/out" "$BOOT_DIR/err"
    (trap '' INT && exec cat <"$BOOT_DIR/out") &
    BOOT_OUT=$!
    (trap '' INT && exec cat <"$BOOT_DIR/err" >&2) &
    BOOT_ERR=$!
    set -m
    # setpriv ends the guest with this process, even if that is killed without a chance to clean up. The directory is
    # the request's: in the caller's directory the guest would use a file root_fs as its disk.
    env -C "$BOOT_DIR" setpriv --pdeathsig KILL -- "$(kernel_link)/linux" "${arguments[@]}" \
        </dev/null >"$BOOT_DIR/out" 2>"$BOOT_DIR/err" 3>"$BOOT_DIR/log" &
    BOOT_PID=$!
    set +m
}

# Waits at most opt_timeout seconds for the guest; BOOT_TIMED_OUT shows whether the time ran out.
boot_wait() {
    local watchdog
    BOOT_TIMED_OUT=
    (
        trap - INT TERM EXIT
        sleep "$opt_timeout" &
        trap 'kill $! 2>/dev/null; exit 0' TERM
        wait $!
        touch "$BOOT_DIR/timeout"
        kill -KILL -- "-$BOOT_PID"
    ) </dev/null >/dev/null 2>&1 &
    watchdog=$!
    wait "$BOOT_PID" 2>/dev/null || true
    kill -TERM "$watchdog" 2>/dev/null || true
    wait "$watchdog" 2>/dev/null || true
    boot_kill # what the kernel left of its own, if it died
    wait "$BOOT_OUT" "$BOOT_ERR" 2>/dev/null || true
    [ ! -e "$BOOT_DIR/timeout" ] || BOOT_TIMED_OUT=1
}

# Returns the status of the command, or 125 and the end of the kernel's log.
boot_status() {
    local word value
    if [ -n "$BOOT_TIMED_OUT" ]; then
        boot_tail
        say "no end after $opt_timeout s, stopped: ${opt_args[*]}"
        return 124
    fi
    read -r word value <"$BOOT_DIR/status" 2>/dev/null || word=nothing value=
    case $word in
        exit) return "$value" ;;
        signal) return $((128 + value)) ;;
        lab)
            boot_tail
            if grep -q 'Kernel panic' "$BOOT_DIR/log"; then
                value='the kernel panicked'
            fi
            say "$value: ${opt_args[*]}"
            ;;
        *)
            boot_tail
            say "the kernel did not start the guest's init ($(kernel_link)/linux)"
            ;;
    esac
    return 125
}

boot_tail() {
    [ -s "$BOOT_DIR/log" ] || return 0
    say "the last lines of the kernel's log:"
    tail -n 40 "$BOOT_DIR/log" | tr -d '\r' | sed 's/^/lab| /' >&2
}

boot_prepare() {
    need setpriv flock stty
    # The kernel keeps a host file open for every inode of hostfs that the guest has ever opened.
    ulimit -n "$(ulimit -Hn)"
    lab_kernel
    lab_init
    lab_userland
    case $LAB_CACHE in *[:,\ ]*) die "the cache's path may not hold a colon, comma or blank: $LAB_CACHE" ;; esac
    if [ -n "$opt_golden" ]; then
        local image copy
        image=$(golden_image "$opt_golden")
        [ -e "$image" ] || die "no golden image $opt_golden (make it with: $LAB_DIR/lab golden $opt_golden -- COMMAND)"
        mkdir -p "$LAB_CACHE/run"
        copy=$(mktemp "$LAB_CACHE/run/golden.XXXXXX")
        BOOT_DISKS+=("$copy")
        cp --reflink=auto --sparse=always "$(readlink -f "$image")" "$copy"
        opt_disks=("$copy" ${opt_disks[@]+"${opt_disks[@]}"})
        [ "$opt_pool" != none ] || opt_pool=import
    fi
    case $opt_pool in
        disk | import) [ ${#opt_disks[@]} -gt 0 ] || die "--pool $opt_pool wants a --disk" ;;
    esac
}

lab_run() {
    parse_boot "$@"
    [ ${#opt_args[@]} -gt 0 ] || die "run wants a command"
    trap boot_clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    boot_prepare
    boot_request
    boot_start
    boot_wait
    boot_status
}

# lab cut --disk IMG --after MS -- CMD...: cuts the power.
lab_cut() {
    parse_boot "$@"
    if [ ${#opt_args[@]} -eq 0 ] || [ -z "$opt_after" ] || [ ${#opt_disks[@]} -eq 0 ]; then
        die "usage: lab cut --disk IMAGE --after MILLISECONDS [--pool import] -- COMMAND"
    fi
    trap boot_clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    boot_prepare
    boot_request
    boot_start
    local waited=0
    while [ ! -e "$BOOT_DIR/started" ] && kill -0 "$BOOT_PID" 2>/dev/null; do
        sleep 0.02
        waited=$((waited + 1))
        [ $waited -lt 1500 ] || die "the guest did not start within 30 s"
    done
    while [ -n "$opt_mark" ] && [ ! -e "$opt_mark" ] && kill -0 "$BOOT_PID" 2>/dev/null; do
        sleep 0.01
    done
    sleep "$(printf '%d.%03d' $((opt_after / 1000)) $((opt_after % 1000)))"
    if kill -0 "$BOOT_PID" 2>/dev/null; then
        boot_kill
        wait "$BOOT_PID" 2>/dev/null || true
        wait "$BOOT_OUT" "$BOOT_ERR" 2>/dev/null || true
        say "power cut after $opt_after ms"
        return 0
    fi
    BOOT_TIMED_OUT=
    wait "$BOOT_PID" 2>/dev/null || true
    wait "$BOOT_OUT" "$BOOT_ERR" 2>/dev/null || true
    boot_status || { local status=$?; say "not cut: the command had ended by itself, with $status"; return 1; }
    say "not cut: the command had ended by itself, with 0"
    return 1
}
