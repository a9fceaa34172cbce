# shellcheck shell=bash
# An interactive shell in the guest, on the terminal of the caller.

# lab shell [OPTIONS] [--] [CMD...]
lab_shell() {
    local saved world='' binary=''
    parse_boot --pool tmpfs --mem 3072M "$@"
    [ -t 0 ] && [ -t 1 ] || die "shell wants a terminal"
    opt_tty=1
    if [ ${#opt_args[@]} -eq 0 ]; then
        # The binary that was built from this tree, if there is one.
        binary=${EZZ_LAB_BIN:-${CARGO_TARGET_DIR:-$LAB_DIR/../../target}/debug/ezz}
        if [ -x "$binary" ]; then
            binary=$(readlink -f "$binary")
            world=$(lab_world debian)
        else
            binary=''
        fi
        opt_args=(/bin/bash "$LAB_DIR/guest/shell" "$binary" "$world")
    fi
    trap boot_clean EXIT
    boot_prepare
    boot_request
    saved=$(stty -g)
    local arguments=()
    mapfile -t arguments < <(boot_arguments)
    # The job runs in the foreground of the terminal, in a group of its own.
    set -m
    env -C "$BOOT_DIR" "$(kernel_link)/linux" "${arguments[@]}" 3>"$BOOT_DIR/log" || true
    set +m
    stty "$saved"
    BOOT_TIMED_OUT=
    boot_status
}
