#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cpu_only.sh TORCH-LIB-DIRECTORY: makes PyTorch's one wheel for Linux load without CUDA. Its libraries are linked
# against about twenty of NVIDIA's (2.4 GB to download), although nothing of them runs on a machine without a GPU. For each
# that is not there, this puts a library of the same name beside PyTorch's in which every function wanted of it exists
# and answers "no device" (100). PyTorch then finds no GPU; what it computes on the processor is its own code, untouched.
set -eu
torch=$1
cc=${CC:-cc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Wanted libraries of NVIDIA's that are not there.
for file in "$torch"/*.so*; do readelf -dW "$file"; done 2>/dev/null |
    sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | LC_ALL=C sort -u |
    grep -E '^lib(cu(da|dnn|blas|fft|file|pti|rand|solver|sparse)|nccl|nv(rtc|shmem|JitLink|ToolsExt))' |
    while IFS= read -r name; do [ -e "$torch/$name" ] || echo "$name"; done >"$scratch/libraries"
[ -s "$scratch/libraries" ] || exit 0

# "file version" for each version that is wanted of a library
for file in "$torch"/*.so*; do readelf -VW "$file"; done 2>/dev/null | awk '
    /^Version/ { needs = /needs section/ }
    needs && match($0, /File: [^ ]+/) { file = substr($0, RSTART + 6, RLENGTH - 6) }
    needs && match($0, /Name: [^ ]+/) { print file, substr($0, RSTART + 6, RLENGTH - 6) }' |
    LC_ALL=C sort -u >"$scratch/versions"

# What no library of PyTorch defines: "name version" or "name". Weak ones may stay undefined.
nm -D --defined-only "$torch"/*.so* 2>/dev/null | awk 'NF == 3 { sub(/@.*/, "", $3); print $3 }' |
    LC_ALL=C sort -u >"$scratch/defined"
nm -D --undefined-only "$torch"/*.so* 2>/dev/null | awk '$1 == "U" { sub(/@+/, " ", $2); print $2 }' |
    LC_ALL=C sort -u | LC_ALL=C join -v 1 - "$scratch/defined" >"$scratch/wanted"

# Those without a version name no library: they go where the first library is, which every user of them loads too. Only
# C names of NVIDIA's; the C system's own all have versions.
first=$(head -n 1 "$scratch/libraries")
while IFS= read -r library; do
    awk -v library="$library" -v first="$first" '
        FNR == NR { if ($1 == library) mine[$2] = 1; next }
        NF == 2 && ($2 in mine) { print $2, $1 }
        NF == 1 && library == first && $1 ~ /^(cu|nccl|nv|cupti)[A-Za-z0-9_]*$/ { print "-", $1 }
    ' "$scratch/versions" "$scratch/wanted" | LC_ALL=C sort -u >"$scratch/symbols"
    awk '{ print "int " $2 "(void) { return 100; }" } END { print "typedef int not_empty;" }' \
        "$scratch/symbols" >"$scratch/stub.c"
    awk '$1 != "-" { if ($1 != version) { if (version) print "};"; version = $1; print version " {" } print $2 ";" }
        END { if (version) print "};" }' "$scratch/symbols" >"$scratch/stub.map"
    set -- -shared -fPIC -w -fno-builtin -nostdlib -Wl,-soname,"$library" "$scratch/stub.c" -o "$torch/$library"
    [ ! -s "$scratch/stub.map" ] || set -- "$@" -Wl,--version-script,"$scratch/stub.map"
    "$cc" "$@"
done <"$scratch/libraries"
echo "$(wc -l <"$scratch/libraries") CUDA libraries replaced by empty ones" >&2
