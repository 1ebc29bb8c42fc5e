#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks what no compiler does: functions that only certain places may call, headers that only certain files may
# include, the licence line, leftovers, length, paths of someone's machine and hosts of package registries.
set -eu
cd "$(dirname "$0")/.."

files() {
    find . -name .git -prune -o -path ./build -prune -o -path ./runs -prune -o -name furlong-demo -prune -o \
        -type f \( -name '*.c' -o -name '*.h' -o -name '*.sh' -o -name '*.py' -o -name '*.cmake' -o -name '*.in' \
        -o -name '*.md' -o -name '*.json' -o -name '*.txt' -o -name dev -o -path ./.ci/run \) -print |
        sed 's,^\./,,' | LC_ALL=C sort
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
files >"$scratch/files"

# Hosts of this machine's own package sources; the well-known ones are in check_source.awk.
{
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources /etc/pip.conf \
        "${HOME:-/nonexistent}/.config/pip/pip.conf" 2>/dev/null || true
    env | grep -E '^(PIP_|UV_|[a-z]*_?INDEX_URL)' || true
} | grep -oE 'https?://[^/ "]+' | sed -E 's,.*[/@],,; s,:[0-9]+$,,' | grep -F . |
    grep -vE '^(localhost|127\.)' | LC_ALL=C sort -u >"$scratch/hosts" || true

status=0
xargs awk -v hosts="$scratch/hosts" -f tools/check_source.awk <"$scratch/files" || status=1
echo "source: $(wc -l <"$scratch/files") files, $([ "$status" -eq 0 ] && echo all right || echo wrong)"
exit "$status"
