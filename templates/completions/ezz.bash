
# Names of jails, where a verb takes them. Not with options, and not where nobody may read the site.
_ezz_jails() {
    _ezz "$@"
    case ${COMP_WORDS[1]-} in
    start | stop | restart | show | delete | console | exec | clone | list | merge)
        if [[ ${COMP_WORDS[COMP_CWORD]} != -* ]]; then
            local names
            names=$(ezz list --only-names 2>/dev/null) &&
                COMPREPLY+=($(compgen -W "$names" -- "${COMP_WORDS[COMP_CWORD]}"))
        fi
        ;;
    esac
}
complete -F _ezz_jails -o nosort -o bashdefault -o default ezz
