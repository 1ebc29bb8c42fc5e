# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The peers that Furlong is compared with, in a Python environment of their own.

peers_python=build/peers/bin/python

# need_peers: makes the environment where it is not there or its list has changed; peers_python runs in it
need_peers() {
    # shellcheck disable=SC2086 # lists of words
    need $packages_python $packages_build
    export PYTHONDONTWRITEBYTECODE=1 # no caches beside the scripts
    peers_stamp=build/peers/requirements.txt
    cmp -s bench/peers/requirements.txt "$peers_stamp" && return 0
    say "To install into build/peers: $(grep -c == bench/peers/requirements.txt) Python packages from PyPI, PyTorch among them;"
    say "            587 MB to download, 1.6 GB on disk (PyTorch by itself would bring 2.4 GB of CUDA libraries more)"
    rm -f "$peers_stamp"
    python_environment build/peers
    "$peers_python" -m pip --disable-pip-version-check install -q --no-deps --only-binary :all: \
        -r bench/peers/requirements.txt >&2 </dev/null || die "pip could not install bench/peers/requirements.txt"
    sh bench/peers/cpu_only.sh "$("$peers_python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/torch/lib" ||
        die "could not make PyTorch load without CUDA"
    "$peers_python" -c 'import numpy, safetensors, torch, transformers' 2>build/peers/import.log || {
        cat build/peers/import.log >&2
        die "the peers do not load"
    }
    cp bench/peers/requirements.txt "$peers_stamp"
}

# need_package: the same with the Python package of this tree in it
need_package() {
    # shellcheck disable=SC2086 # a list of words
    need $packages_package
    need_peers
    "$peers_python" -m pip --disable-pip-version-check install -q --no-deps ./python >&2 </dev/null ||
        die "pip could not install ./python"
}

# peers: the environment, then every committed check that compares with them
verb_peers() {
    need_peers
    "$peers_python" -c '
import numpy, torch, transformers
print("peers: torch", torch.__version__, "transformers", transformers.__version__, "numpy", numpy.__version__)'
    peers_run=0
    peers_failed=0
    for peers_script in bench/show/*.sh; do
        grep -qE '^need_(peers|package)' "$peers_script" || continue
        peers_name=${peers_script##*/}
        echo "== ${peers_name%.sh}"
        peers_run=$((peers_run + 1))
        sh "$peers_script" "$@" </dev/null || peers_failed=$((peers_failed + 1))
    done
    echo "peers: $((peers_run - peers_failed)) passed, $peers_failed failed"
    [ "$peers_failed" -eq 0 ]
}
