# SPDX-License-Identifier: Apache-2.0
# tables moved lazily against dense Adam in f32, the same run otherwise: held-out loss (target: within 0.02 nats after 500 steps)
# lookup-lazy.sh [STEPS [PRESET]]
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
build_release
get_text shakespeare
steps=${1-500}
preset=${2-bytes-1m-lookup}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# loss OPTIMIZER: of the held-out tenth
loss() {
    build/release/furlong train -f "$text_path" --preset "$preset" -c 512 -b 4096 --max-steps "$steps" --eval-steps 0 \
        --eval-tokens 128K --save-steps 0 --memory 4G --table-optimizer "$1" -o "$scratch/$1" --json 2>/dev/null |
        sed -n 's/.*"eval_loss": *\([0-9.]*\).*/\1/p'
}

lazy=$(loss lazy)
adam=$(loss adam)
awk -v lazy="$lazy" -v adam="$adam" -v steps="$steps" -v preset="$preset" 'BEGIN {
    apart = lazy - adam
    missed = (apart < 0 ? -apart : apart) > 0.02
    printf "%s, %d steps of 4,096 bytes: held-out loss %.4f lazy, %.4f dense Adam, %+.4f apart (target within 0.02)\n", preset, steps, lazy, adam, apart
    exit missed }'
