# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The reference on another processor: built for aarch64, tested under qemu's user emulation. The libraries for aarch64
# are unpacked into build/cross/sysroot by an apt that has its state there too, so the host's packages stay as they are.

cross_packages='zlib1g zlib1g-dev libjansson4 libjansson-dev libzstd1 libzstd-dev libxxhash0 libxxhash-dev libcmocka0 libcmocka-dev libpcre2-8-0 libpcre2-dev libutf8proc2 libutf8proc-dev'

# apt-get for arm64 with lists, cache and installed state of its own, and the host's sources and keys
cross_apt() {
    apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root \
        -o Dir::State="$ROOT/build/cross/apt/state" -o Dir::State::status="$ROOT/build/cross/apt/status" \
        -o Dir::Cache="$ROOT/build/cross/apt/cache" "$@" </dev/null >"$ROOT/build/cross/apt.log" 2>&1 || {
        tail -n 20 "$ROOT/build/cross/apt.log" >&2
        die "could not fetch the libraries for aarch64"
    }
}

# The list of packages is part of the stamp's name, so that a longer list is fetched.
cross_sysroot() {
    cross_stamp=build/cross/sysroot/.made
    [ "$(cat "$cross_stamp" 2>/dev/null)" = "$cross_packages" ] && return 0
    have apt-get || die "the libraries for aarch64 come from Debian's packages; this system has no apt-get"
    rm -rf build/cross
    mkdir -p build/cross/sysroot build/cross/debs build/cross/apt/state/lists/partial \
        build/cross/apt/cache/archives/partial
    : >build/cross/apt/status
    say "fetching for aarch64, into build/cross: $cross_packages"
    cross_apt update
    # shellcheck disable=SC2086 # a list of words
    (cd build/cross/debs && cross_apt download $cross_packages)
    for cross_deb in build/cross/debs/*.deb; do
        dpkg-deb -x "$cross_deb" build/cross/sysroot
    done
    say "$(du -sh build/cross/debs | cut -f1) of packages"
    printf '%s\n' "$cross_packages" >"$cross_stamp"
}

# cross [CTEST-OPTION...]
verb_cross() {
    # shellcheck disable=SC2086
    need $packages_cross
    cross_sysroot
    build_preset aarch64
    cross_code=0
    run_tests aarch64 --timeout 1800 "$@" || cross_code=$?
    [ -z "$tests_line" ] || echo "$tests_line"
    return "$cross_code"
}
