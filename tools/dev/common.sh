# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What every verb of ./dev uses: words to the person, processors, time. POSIX sh has no local variables, so names that
# a function sets for itself begin with its own name.

say() { printf '%s\n' "$*" >&2; }

die() {
    printf 'dev: %s\n' "$*" >&2
    exit 1
}

# Processors this process may use; nproc knows about affinity, getconf is what POSIX has.
processors() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1; }

now() { date +%s; }

# since START: "1 min 5 s"
since() {
    since_seconds=$(($(now) - $1))
    if [ "$since_seconds" -ge 60 ]; then
        echo "$((since_seconds / 60)) min $((since_seconds % 60)) s"
    else
        echo "$since_seconds s"
    fi
}

# mebibytes BYTES: with one decimal
mebibytes() { awk -v b="$1" 'BEGIN { printf "%.1f MB", b / 1e6 }'; }

have() { command -v "$1" >/dev/null 2>&1; }

# check_sha256 FILE HASH: true when the file has that hash
check_sha256() {
    [ -f "$1" ] || return 1
    check_sha256_got=$(sha256sum "$1") || return 1
    [ "${check_sha256_got%% *}" = "$2" ]
}

# json_value FILE KEY: the first number or word of that key in a line of JSON
json_value() { grep -o "\"$2\":[^,}]*" "$1" | head -n 1 | cut -d: -f2; }
