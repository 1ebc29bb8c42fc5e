# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# ./dev demo and the verbs that only build and hand over.

# demo [FILE] [--text NAME] [OPTION...]: options go to `furlong demo`
verb_demo() {
    demo_file=
    demo_text=bible
    case ${1-} in
    '' | -*) ;;
    *)
        demo_file=$(cd "$DEV_FROM" && realpath -- "$1" 2>/dev/null) || demo_file=$1
        [ -r "$demo_file" ] || die "cannot read $1"
        shift
        ;;
    esac
    if [ "${1-}" = --text ]; then
        [ $# -ge 2 ] || die "--text wants a name: bible or shakespeare"
        demo_text=$2
        shift 2
    fi
    # shellcheck disable=SC2086 # a list of words
    need $packages_build
    if [ -z "$demo_file" ]; then
        # Where there is no Debian package of the one, the other serves.
        if [ "$demo_text" = bible ] && ! have bible && ! have apt-get; then
            demo_text=shakespeare
        fi
        get_text "$demo_text"
        demo_file=$text_path
    fi
    build_preset release
    exec build/release/furlong demo -f "$demo_file" "$@"
}

# bench [OPTION...]: hands over to `furlong bench`
verb_bench() {
    # shellcheck disable=SC2086
    need $packages_build
    build_preset release
    exec build/release/furlong bench "$@"
}

# show [NAME [OPTION...] | all]: runs a committed check that prints figure and target
verb_show() {
    if [ $# -eq 0 ]; then
        for show_script in bench/show/*.sh; do
            show_name=${show_script##*/}
            printf '%-24s %s\n' "${show_name%.sh}" "$(sed -n '/^# SPDX/d; /^#!/d; /^# */{s///p;q;}' "$show_script")"
        done
        return 0
    fi
    show_wanted=$1
    shift
    if [ "$show_wanted" != all ]; then
        [ -f "bench/show/$show_wanted.sh" ] || die "no '$show_wanted'; ./dev show lists what there is"
        exec sh "bench/show/$show_wanted.sh" "$@"
    fi
    show_passed=0
    show_failed=
    for show_script in bench/show/*.sh; do
        show_name=${show_script##*/}
        echo "== ${show_name%.sh}"
        if sh "$show_script" "$@" </dev/null; then
            show_passed=$((show_passed + 1))
        else
            show_failed="$show_failed ${show_name%.sh}"
        fi
    done
    # shellcheck disable=SC2086
    set -- $show_failed
    [ $# -eq 0 ] || echo "missed: $*"
    echo "show: $show_passed passed, $# failed"
    [ $# -eq 0 ]
}
