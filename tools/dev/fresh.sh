# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# A bare Debian 12 of its own under build/fresh, in which the README's two commands and the three that the demo prints
# are run on a clone of what is committed. The host's package sources and proxy settings are read each time and put into
# that root alone; nothing of them is kept in the repository.

fresh_root=build/fresh/root

# The host's Debian archives, one sources.list line each; what comes from elsewhere is not bare.
fresh_sources() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
        awk '$NF == "Debian" && $3 ~ /^bookworm/ && $4 == "main" { print $1, $2, $3, $4 }' | LC_ALL=C sort -u
}

# Only what tells apt how to reach its sources: the host's hooks call programs that a bare system lacks.
fresh_apt_settings() {
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-Valid-Until|Check-Date|Retries|ForceIPv)' |
        grep -v '::User-Agent' || true
}

# Names and values of the environment that a download needs, for `env`; the certificates are copied beside.
fresh_environment() {
    for fresh_name in http_proxy https_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY all_proxy ALL_PROXY \
        PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT; do
        eval "fresh_value=\${$fresh_name-}"
        [ -z "$fresh_value" ] || printf '%s=%s\n' "$fresh_name" "$fresh_value"
    done
}

# in_root COMMAND...: as root of the bare system, in /furlong where that is there, in mount and process namespaces of
# its own: whatever happens, nothing stays mounted and no process stays alive.
in_root() {
    # shellcheck disable=SC2016,SC2046 # the inner shell's variables; NAME=VALUE words without blanks
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CI="${CI-}" \
        $(fresh_environment) unshare --mount --pid --fork --kill-child sh -c '
        root=$1
        shift
        mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount -t sysfs -o ro sysfs "$root/sys" ||
            exit 1
        mount -t cgroup2 -o ro cgroup2 "$root/sys/fs/cgroup" 2>/dev/null || true
        exec chroot "$root" sh -c "[ ! -d /furlong ] || cd /furlong; exec \"\$@\"" sh "$@"' sh "$fresh_root" "$@"
}

fresh_make() {
    fresh_list=$(fresh_sources)
    if [ -z "$fresh_list" ]; then
        apt_update || die "apt-get update failed"
        fresh_list=$(fresh_sources)
    fi
    fresh_mirror=$(printf '%s\n' "$fresh_list" | awk '$3 == "bookworm" { print $2; exit }')
    [ -n "$fresh_mirror" ] || die "this host's package sources have no Debian 12 (bookworm)"
    fresh_remove
    mkdir -p build/fresh
    say "debootstrap: bookworm, minbase, with git"
    debootstrap --variant=minbase --include=git,ca-certificates bookworm "$fresh_root" "$fresh_mirror" \
        >build/fresh/debootstrap.log 2>&1 </dev/null || {
        tail -n 20 build/fresh/debootstrap.log >&2
        die "debootstrap failed"
    }
    printf '%s\n' "$fresh_list" >"$fresh_root/etc/apt/sources.list"
    fresh_apt_settings >"$fresh_root/etc/apt/apt.conf.d/90host"
    for fresh_file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [ ! -e "$fresh_file" ] || cp -L "$fresh_file" "$fresh_root$fresh_file"
    done
}

# The root has no mounts outside in_root's namespace; should a person have added one, it is not removed through.
fresh_remove() {
    [ -d "$fresh_root" ] || return 0
    if grep -qF " $(cd "$fresh_root" && pwd -P)/" /proc/self/mounts; then
        die "$fresh_root has something mounted in it: unmount that first"
    fi
    rm -rf "$fresh_root"
}

# fresh_run WORDS...: one command in the root, timed; stops at the first that fails
fresh_run() {
    fresh_start=$(now)
    say "fresh: \$ $*"
    fresh_code=0
    in_root "$@" </dev/null || fresh_code=$?
    printf '%s\t%s\t%s\n' "$fresh_code" "$(since "$fresh_start")" "$*" >>build/fresh/times
    [ "$fresh_code" -eq 0 ]
}

fresh_commands() {
    fresh_run ./dev test || return 1
    # shellcheck disable=SC2086 # --quick, or nothing
    fresh_run ./dev demo $1 || return 1
    fresh_next=$fresh_root/furlong/furlong-demo/next.sh
    [ -f "$fresh_next" ] || die "the demo wrote no furlong-demo/next.sh"
    grep -vE '^ *(#|$)' "$fresh_next" >build/fresh/next
    fresh_count=0
    while IFS= read -r fresh_line <&3; do
        fresh_count=$((fresh_count + 1))
        fresh_run sh -c "$fresh_line" || return 1
    done 3<build/fresh/next
    [ "$fresh_count" -eq 3 ] || die "the demo's next.sh has $fresh_count commands, not three"
}

# fresh [--quick] [--keep]: --quick makes the demo quick, --keep leaves the root for a look
verb_fresh() {
    fresh_quick=
    fresh_keep=
    for fresh_word in "$@"; do
        case $fresh_word in
        --quick) fresh_quick=--quick ;;
        --keep) fresh_keep=1 ;;
        *) die "fresh knows --quick and --keep, not $fresh_word" ;;
        esac
    done
    # shellcheck disable=SC2086
    need $packages_fresh
    [ "$(id -u)" -eq 0 ] || die "a root of its own needs root: sudo ./dev fresh $*"
    have unshare || die "unshare (util-linux) is missing"
    [ -z "$(git status --porcelain)" ] || say "fresh: what is not committed is not in the clone"
    [ -n "$fresh_keep" ] || trap 'fresh_remove' EXIT
    trap 'exit 130' INT TERM
    fresh_make
    git clone -q "$ROOT" "$fresh_root/furlong" || die "git clone failed"
    : >build/fresh/times
    fresh_failed=0
    fresh_commands "$fresh_quick" || fresh_failed=1
    echo "In a bare Debian 12, with $(processors) processors:"
    awk -F '\t' '{ printf "%-4s %-14s %s\n", $1 == 0 ? "ok" : "FAIL", $2, $3; if ($1) bad++ }
        END { printf "fresh: %d passed, %d failed\n", NR - bad, bad }' build/fresh/times
    return "$fresh_failed"
}
