# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Everything that ./dev and the scripts of bench/show share. Source it from the repository's root, with ROOT set to it.
# shellcheck source=tools/dev/common.sh
. tools/dev/common.sh
# shellcheck source=tools/dev/packages.sh
. tools/dev/packages.sh
# shellcheck source=tools/dev/build.sh
. tools/dev/build.sh
# shellcheck source=tools/dev/text.sh
. tools/dev/text.sh
# shellcheck source=tools/dev/demo.sh
. tools/dev/demo.sh
# shellcheck source=tools/dev/lint.sh
. tools/dev/lint.sh
# shellcheck source=tools/dev/fresh.sh
. tools/dev/fresh.sh
# shellcheck source=tools/dev/cross.sh
. tools/dev/cross.sh
# shellcheck source=tools/dev/peers.sh
. tools/dev/peers.sh
