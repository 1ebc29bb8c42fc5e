# SPDX-License-Identifier: Apache-2.0
# fit-attention's gradient, products and Hessian against finite differences and the paper's dense A1 (x) A2 form (target 1e-7; blocked against unblocked 1e-12)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build $packages_test
build_preset test
if build/test/tests/unit_fit_math 2>&1 | grep -E '^\[ +(OK|FAILED) +\]'; then
    build/test/tests/unit_fit_math >/dev/null 2>&1 && echo "target met" && exit 0
fi
echo "target missed"
exit 1
