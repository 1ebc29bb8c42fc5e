#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD-DIRECTORY C-COMPILER: installs into a scratch folder, moves the folder, and builds and runs
# examples/c against it through pkg-config (shared and static) and through find_package(furlong).
set -eu
build=$1
cc=$2
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "install: $*"
    exit 1
}

cmake --install "$build" --prefix "$scratch/first" >"$scratch/log" 2>&1 || {
    cat "$scratch/log"
    fail "cmake --install failed"
}
mv "$scratch/first" "$scratch/moved"
prefix=$scratch/moved
libdir=$(dirname "$(find "$prefix" -name libfurlong.so)")
if grep -rIlF -e "$scratch/first" -e "$build" "$prefix"; then
    fail "the files above name a folder of the build"
fi

# expect PROGRAM: it runs from anywhere, with the library where it was moved to, and says what it should
expect() {
    got=$(cd "$scratch" && LD_LIBRARY_PATH=$libdir "$1") || fail "$1 ended with $?"
    printf '%s\n' "$got" | grep -q '^loss ' || fail "$1 printed: $got"
    echo "install: $2"
}

if [ -x "$prefix/bin/furlong" ]; then
    "$prefix/bin/furlong" --version >/dev/null || fail "the installed program does not run"
    for page in "$prefix"/share/man/man1/furlong*.1; do
        [ -s "$page" ] || fail "no man pages"
    done
    bash -n "$prefix/share/bash-completion/completions/furlong" || fail "the bash completion is not bash"
    echo "install: program, man pages and completions"
fi

# By pkg-config where it is there, else by reading the one file that a person without it would read.
pc=$libdir/pkgconfig/furlong.pc
[ -f "$pc" ] || fail "no furlong.pc"
if command -v pkg-config >/dev/null 2>&1; then
    flags=$(PKG_CONFIG_PATH=${pc%/*} pkg-config --cflags --libs furlong)
    static=$(PKG_CONFIG_PATH=${pc%/*} pkg-config --static --cflags --libs furlong)
else
    flags="-I$prefix/include -L$libdir -lfurlong"
    static="$flags $(sed -n 's/^Libs.private: //p' "$pc")"
fi
# shellcheck disable=SC2086 # lists of words
"$cc" -std=c11 -Wall -Wextra -Werror "$root/examples/c/train_sine.c" $flags -lm -o "$scratch/by_pkg_config" ||
    fail "does not build through pkg-config"
expect "$scratch/by_pkg_config" "shared, by pkg-config"
static=$(printf '%s' "$static" | sed "s,-lfurlong,$libdir/libfurlong.a,")
# shellcheck disable=SC2086
"$cc" -std=c11 -Wall -Wextra -Werror "$root/examples/c/train_sine.c" $static -lm -o "$scratch/by_static" ||
    fail "does not build against the static library"
expect "$scratch/by_static" "static, by pkg-config"

if ! { cmake -S "$root/examples/c" -B "$scratch/cmake" -G Ninja -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" -DFURLONG_STATIC=ON && cmake --build "$scratch/cmake"; } >"$scratch/log" 2>&1; then
    cat "$scratch/log"
    fail "does not build through find_package(furlong)"
fi
expect "$scratch/cmake/train_sine" "shared, by find_package"
expect "$scratch/cmake/train_sine_static" "static, by find_package"
