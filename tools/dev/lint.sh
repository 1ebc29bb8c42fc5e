# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Format and static checks.

# c_files: every C file of the repository, tracked or about to be
c_files() {
    find src include cli tests examples -name '*.[ch]' 2>/dev/null | LC_ALL=C sort
}

# changed_c_sources: the .c files that differ from the branch's start, or are new; all where there is no git history.
# A changed header counts by way of the sources that include it.
changed_c_sources() {
    lint_base=$(git merge-base HEAD origin/HEAD 2>/dev/null) || lint_base=$(git rev-parse HEAD~10 2>/dev/null) || {
        c_files | grep '\.c$'
        return
    }
    { git diff --name-only --diff-filter=d "$lint_base" && git ls-files -o --exclude-standard; } | LC_ALL=C sort -u |
        grep -E '^(src|include|cli|tests|examples)/.*\.[ch]$' | while IFS= read -r lint_file; do
        case $lint_file in
        *.c) echo "$lint_file" ;;
        *)
            lint_tail=${lint_file#include/}
            lint_tail=${lint_tail#src/}
            grep -rlF --include='*.c' -e "$lint_tail" src cli tests examples || true
            ;;
        esac
    done | LC_ALL=C sort -u
}

# lint_step NAME COMMAND...: runs it, counts it
lint_step() {
    lint_step_name=$1
    shift
    if "$@"; then
        lint_passed=$((lint_passed + 1))
    else
        lint_failed=$((lint_failed + 1))
        say "lint: $lint_step_name failed"
    fi
}

lint_format() { c_files | xargs clang-format --dry-run -Werror; }

# One file a process (clang-tidy 14 forgets va_start from the second file on), one process a processor. Files outside the
# compile commands (examples, variants of other machines) are left out.
lint_tidy() {
    lint_database=build/clang/compile_commands.json
    lint_list=build/clang/tidy.list
    if [ "$1" = --all ]; then c_files | grep '\.c$'; else changed_c_sources; fi |
        while IFS= read -r lint_file; do
            grep -qF "/$lint_file\"" "$lint_database" && echo "$lint_file"
        done >"$lint_list"
    say "clang-tidy on $(wc -l <"$lint_list") files"
    [ ! -s "$lint_list" ] || xargs -P "$(processors)" -n 1 clang-tidy --quiet -p build/clang <"$lint_list" 2>build/clang/tidy.log
}

# Inline suppressions carry their reason beside them.
lint_cppcheck() {
    mkdir -p build/cppcheck
    find src cli -name '*.c' ! -name '*_test*.c' | LC_ALL=C sort >build/cppcheck/files
    cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr \
        --error-exitcode=1 --suppress=missingIncludeSystem --suppress=unusedStructMember \
        --cppcheck-build-dir=build/cppcheck -j "$(processors)" -Iinclude -Isrc -Icli -Itests \
        -DFUR_HAVE_AVX2=1 -DFUR_HAVE_AVX512=1 -DFUR_HAVE_DNNL=1 -DFUR_HAVE_OPENBLAS=1 --file-list=build/cppcheck/files
}

lint_shell() {
    shellcheck -x -a dev && shellcheck .ci/run &&
        find . -path ./build -prune -o -name .git -prune -o -name '*.sh' -print | grep -v '^\./tools/dev/' |
        xargs shellcheck -s sh -x
}

lint_dash() {
    for lint_script in dev tools/*.sh tools/dev/*.sh bench/show/*.sh bench/peers/*.sh tests/e2e/*.sh; do
        [ ! -f "$lint_script" ] || dash -n "$lint_script" || return 1
    done
}

verb_lint() {
    # shellcheck disable=SC2086 # lists of words
    need $packages_build $packages_test $packages_clang $packages_lint
    lint_passed=0
    lint_failed=0
    build_preset clang
    lint_step format lint_format
    for lint_check in layers headers source checks; do
        lint_step "$lint_check" sh "tools/check_$lint_check.sh"
    done
    lint_step symbols sh tools/check_symbols.sh build/clang
    lint_step shellcheck lint_shell
    lint_step dash lint_dash
    lint_step cppcheck lint_cppcheck
    lint_step clang-tidy lint_tidy "${1-}"
    echo "lint: $lint_passed passed, $lint_failed failed"
    [ "$lint_failed" -eq 0 ]
}

verb_fmt() {
    need clang-format
    c_files | xargs clang-format -i
}
