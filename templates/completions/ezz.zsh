
# Names of jails, where a verb takes them, beside what the rest completes.
_ezz_jails() {
    _ezz "$@"
    case ${words[2]-} in
    start | stop | restart | show | delete | console | exec | clone | list | merge)
        if [[ ${words[CURRENT]} != -* ]]; then
            local -a names
            names=(${(f)"$(ezz list --only-names 2>/dev/null)"})
            compadd -a names
        fi
        ;;
    esac
}
compdef _ezz_jails ezz
