#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_symbols.sh BUILD-DIRECTORY: the shared library exports the functions that the public headers declare and nothing
# else, and an object compiled for a higher instruction set has one global symbol, its table of kernels. A second one
# could replace the baseline's copy at link time and stop the program on an older machine.
set -eu
build=${1:?a build directory}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
library=$build/libfurlong.so
[ -f "$library" ] || {
    echo "symbols: $library is not built"
    exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
wrong=0

# Names with a point are the compiler's: clang's lock of OpenMP critical sections is one for all libraries of a process.
nm -D --defined-only "$library" | awk '$NF !~ /^\./ { print $NF }' | LC_ALL=C sort -u >"$scratch/exported"
# A declaration may run over lines: it is read from FUR_API to the name before the first parenthesis.
cat "$root"/include/furlong/*.h | tr '\n' ' ' | sed 's/FUR_API/\n&/g' |
    sed -n 's/^FUR_API[^(;]*[ *]\(fur_[a-z0-9_]*\)(.*/\1/p' | LC_ALL=C sort -u >"$scratch/declared"
LC_ALL=C comm -23 "$scratch/exported" "$scratch/declared" >"$scratch/extra"
LC_ALL=C comm -13 "$scratch/exported" "$scratch/declared" >"$scratch/lacking"
if [ -s "$scratch/extra" ]; then
    sed 's/^/exported but in no public header: /' "$scratch/extra"
    wrong=1
fi
if [ -s "$scratch/lacking" ]; then
    sed 's/^/declared in a public header but not exported: /' "$scratch/lacking"
    wrong=1
fi

find "$build/CMakeFiles/furlong_objects.dir" -name '*_avx2.c.o' -o -name '*_avx512.c.o' -o -name '*_avx512bf16.c.o' -o -name '*_amx*.c.o' \
    >"$scratch/objects"
variants=0
while IFS= read -r object; do
    variants=$((variants + 1))
    count=$(nm -g --defined-only "$object" | awk 'NF == 3' | wc -l)
    if [ "$count" -ne 1 ]; then
        echo "$object has $count global symbols, not one:"
        nm -g --defined-only "$object"
        wrong=1
    fi
done <"$scratch/objects"
echo "symbols: $(wc -l <"$scratch/exported") exported, $(wc -l <"$scratch/declared") declared," \
    "$variants variant objects, $([ "$wrong" -eq 0 ] && echo all right || echo wrong)"
exit "$wrong"
