# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Installs what a verb needs and nothing else. On Debian and its kin through apt-get, after saying what and how much;
# elsewhere it names what is missing, by the same list, and goes on where everything is there.

packages_build='gcc libc6-dev cmake ninja-build libdnnl-dev libjansson-dev libzstd-dev libxxhash-dev zlib1g-dev libpcre2-dev libutf8proc-dev libopenblas-openmp-dev liblapacke-dev'
packages_test='libcmocka-dev'
packages_clang='clang libomp-dev libclang-rt-dev'
packages_lint='clang-format clang-tidy cppcheck shellcheck dash'
packages_fresh='debootstrap git'
packages_cross='gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static cmake ninja-build'
packages_python='python3 python3-venv'
packages_package='python3-dev'

# package_present NAME: true when what the package is wanted for is there, wherever it came from
package_present() {
    case $1 in
    gcc) have cc || have gcc ;;
    libc6-dev) header_present stdio.h ;;
    ninja-build) have ninja ;;
    libdnnl-dev) header_present dnnl.h ;;
    libjansson-dev) header_present jansson.h ;;
    libzstd-dev) header_present zstd.h ;;
    libxxhash-dev) header_present xxhash.h ;;
    zlib1g-dev) header_present zlib.h ;;
    libpcre2-dev) library_present pcre2-8 ;;
    libutf8proc-dev) header_present utf8proc.h ;;
    libopenblas-openmp-dev) library_present openblas ;;
    liblapacke-dev) header_present lapacke.h && library_present lapacke ;;
    python3-dev) python3 -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null ;;
    libcmocka-dev) header_present setjmp.h stdarg.h stddef.h stdint.h cmocka.h ;;
    libomp-dev) clang_builds -fopenmp ;;
    libclang-rt-dev) clang_builds -fsanitize=address ;;
    gcc-aarch64-linux-gnu) have aarch64-linux-gnu-gcc ;;
    libc6-dev-arm64-cross) have aarch64-linux-gnu-gcc && CC=aarch64-linux-gnu-gcc header_present stdio.h ;;
    qemu-user-static) have qemu-aarch64-static ;;
    bible-kjv) have bible ;;
    python3-venv) have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) have "$1" ;;
    esac
}

# header_present NAME...: the last can be included after the others
header_present() {
    have "${CC:-cc}" || return 1
    printf '#include <%s>\n' "$@" | "${CC:-cc}" -E -x c - >/dev/null 2>&1
}

# library_present NAME: a program links with it. A header alone says little where several packages bring it (cblas.h).
library_present() {
    have "${CC:-cc}" && echo 'int main(void) { return 0; }' | "${CC:-cc}" -x c -o /dev/null - "-l$1" 2>/dev/null
}

# clang_builds FLAG: clang links an empty program with it
clang_builds() {
    have clang && echo 'int main(void) { return 0; }' | clang "$1" -x c -o /dev/null - >/dev/null 2>&1
}

# One dpkg-query for all; a package that is not installed is probed, so that one from elsewhere serves as well.
packages_missing() {
    packages_missing_list=
    for packages_missing_name in "$@"; do
        if have dpkg-query &&
            dpkg-query -W -f '${db:Status-Status}\n' "$packages_missing_name" 2>/dev/null | grep -qx installed; then
            continue
        fi
        package_present "$packages_missing_name" ||
            packages_missing_list="$packages_missing_list $packages_missing_name"
    done
    echo "${packages_missing_list# }"
}

# Sets as_root to nothing, or to the prefix that runs a command as root; false where neither is possible.
find_root() {
    as_root=
    [ "$(id -u)" -eq 0 ] && return 0
    have sudo && sudo -n true 2>/dev/null || return 1
    as_root='sudo -n'
}

# packages_new NAME...: every package that installing these would bring, one per line
packages_new() {
    apt-get -s install --no-install-recommends "$@" 2>/dev/null </dev/null | awk '$1 == "Inst" { print $2 }'
}

# packages_size NAME...: "12 packages, 3.4 MB to download, 5.6 MB on disk", without being root
packages_size() {
    # shellcheck disable=SC2046 # a list of words
    apt-cache show --no-all-versions $(packages_new "$@") 2>/dev/null | awk '
        /^Package:/ { n++ }
        /^Size:/ { down += $2 }
        /^Installed-Size:/ { disk += $2 * 1024 }
        END { printf "%d packages, %.1f MB to download, %.1f MB on disk", n, down / 1e6, disk / 1e6 }'
}

# apt WORDS...: apt-get without a question, waiting for another one that runs; its many lines go to build/apt.log and
# are shown where it fails.
apt() {
    mkdir -p build
    # shellcheck disable=SC2086 # as_root is a prefix of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >build/apt.log 2>&1 && return 0
    tail -n 20 build/apt.log >&2
    return 1
}

apt_install() { apt install --no-install-recommends "$@"; }

apt_update() { apt update; }

# need NAME...: returns when all are there, else says how to get them and stops
need() {
    need_missing=$(packages_missing "$@")
    [ -n "$need_missing" ] || return 0
    if ! have apt-get; then
        say "Missing, by Debian's names: $need_missing"
        die "install what provides these, then run the same command again"
    fi
    need_line="apt-get install -y --no-install-recommends $need_missing"
    # shellcheck disable=SC2086 # a list of words
    if [ -z "$(packages_new $need_missing)" ]; then
        need_line="apt-get update && sudo $need_line"
        if ! find_root; then
            say "Missing: $need_missing"
            say "These need root, and the package lists are missing or old. Run:"
            say "    sudo $need_line"
            exit 1
        fi
        say "The package lists are missing or old: apt-get update"
        apt_update || die "apt-get update failed"
    fi
    say "To install: $need_missing"
    # shellcheck disable=SC2086
    say "            $(packages_size $need_missing)"
    if ! find_root; then
        say "This needs root. Run:"
        say "    sudo $need_line"
        exit 1
    fi
    # shellcheck disable=SC2086
    if ! apt_install $need_missing; then
        say "Once more, with new package lists:"
        { apt_update && apt_install $need_missing; } || die "could not install: $need_missing"
    fi
    # shellcheck disable=SC2086
    need_missing=$(packages_missing $need_missing)
    [ -z "$need_missing" ] || die "still missing after installing: $need_missing"
}
