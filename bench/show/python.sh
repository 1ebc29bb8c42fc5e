# SPDX-License-Identifier: Apache-2.0
# the Python package, installed by pip into an environment of its own: its tests (target: all pass)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
need_package
"$peers_python" -m pytest -q -p no:cacheprovider python/tests "$@"
