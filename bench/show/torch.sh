# SPDX-License-Identifier: Apache-2.0
# furlong.torch against PyTorch: gradcheck, transformers' models by attn_implementation="furlong" (target: 2e-4 of the logits' spread and of each gradient), speed, memory of the loss
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
# shellcheck disable=SC2086 # a list of words
need $packages_build
need_package
threads=2
[ "$(processors)" -ge 2 ] || threads=1
"$peers_python" -m pytest -q -p no:cacheprovider python/tests/test_operators.py python/tests/test_torch.py
"$peers_python" bench/peers/torch_operators.py "$threads" "$@"
