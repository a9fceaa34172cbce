
# Names of jails, where a verb takes them.
complete -c ezz -f -n "__fish_seen_subcommand_from start stop restart show delete console exec clone list merge" -a "(ezz list --only-names 2>/dev/null)"
