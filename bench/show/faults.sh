# SPDX-License-Identifier: Apache-2.0
# every allocation of a short run fails in turn, under the address sanitizer (target: a status each time, nothing left)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # lists of words
need $packages_build $packages_test
build_preset asan
log=$(mktemp)
trap 'rm -f "$log"' EXIT
missed=0
export OMP_WAIT_POLICY=passive # nothing is timed here
# stack use after return off: see verb_asan in tools/dev/build.sh
ASAN_OPTIONS="detect_stack_use_after_return=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}" \
    UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}" \
    build/asan/tests/unit_model_faults >"$log" 2>&1 || missed=1
grep -vE '^\[' "$log" || true
if [ "$missed" -eq 0 ]; then echo "target met"; else echo "target missed"; fi
exit "$missed"
