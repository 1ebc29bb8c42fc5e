#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that each public header compiles alone, as C11 and, where a C++ compiler is there, as C++17.
set -eu
cd "$(dirname "$0")/.."
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wundef -Wstrict-prototypes -Werror'
cxx=
for candidate in "${CXX:-}" c++ g++ clang++; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        echo 'int main() {}' | "$candidate" -x c++ -std=c++17 -fsyntax-only - 2>/dev/null; then
        cxx=$candidate
        break
    fi
done
[ -n "$cxx" ] || echo "headers: no C++ compiler, C++17 not checked"
checked=0
wrong=0
for header in include/furlong/*.h; do
    name=furlong/${header##*/}
    checked=$((checked + 1))
    # shellcheck disable=SC2086 # a list of words
    printf '#include <%s>\ntypedef int not_empty;\n' "$name" |
        "${CC:-cc}" -x c -std=c11 $warnings -Iinclude -fsyntax-only - || {
        echo "$header does not compile alone as C11"
        wrong=$((wrong + 1))
    }
    [ -n "$cxx" ] || continue
    # shellcheck disable=SC2086
    printf '#include <%s>\n' "$name" |
        "$cxx" -x c++ -std=c++17 -Wall -Wextra -Wpedantic -Wundef -Werror -Iinclude -fsyntax-only - || {
        echo "$header does not compile alone as C++17"
        wrong=$((wrong + 1))
    }
done
echo "headers: $checked checked, $wrong wrong"
[ "$checked" -gt 0 ] && [ "$wrong" -eq 0 ]
