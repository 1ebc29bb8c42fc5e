#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Plants one fault at a time in a small tree and expects the checks to find it, and nothing where there is none.
set -eu
tools=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

# tree: an empty project without a fault
tree() {
    rm -rf "$scratch/p"
    mkdir -p "$scratch/p/tools" "$scratch/p/src/base" "$scratch/p/src/op/one" "$scratch/p/src/op/two" \
        "$scratch/p/src/op/simd" "$scratch/p/cli" "$scratch/p/include/furlong"
    cp "$tools"/check_*.sh "$tools"/check_source.awk "$scratch/p/tools"
    printf 'base:\nop: base\n' >"$scratch/p/tools/layers.txt"
    for header in src/base/a.h src/op/part.h src/op/one/one.h src/op/two/two.h src/op/simd/simd.h cli/cli.h; do
        echo '/* SPDX-License-Identifier: Apache-2.0 */' >"$scratch/p/$header"
    done
}

# expect CHECK good|bad FILE LINE: the file holds the licence line and LINE
expect() {
    tree
    printf '/* SPDX-License-Identifier: Apache-2.0 */\n%s\n' "$4" >"$scratch/p/$3"
    result=good
    sh "$scratch/p/tools/check_$1.sh" >"$scratch/log" 2>&1 || result=bad
    if [ "$result" = "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "check_$1 finds this $result, not $2, in $3: $4"
        cat "$scratch/log"
    fi
}

# fault CHECK WHAT: the tree as it stands has one
fault() {
    if sh "$scratch/p/tools/check_$1.sh" >"$scratch/log" 2>&1; then
        failed=$((failed + 1))
        echo "check_$1 does not find $2"
    else
        passed=$((passed + 1))
    fi
}

expect layers good src/op/one/one.c '#include "base/a.h"'
expect layers good src/op/one/one.c '#include "op/one/one.h"'
expect layers good src/op/one/one.c '#include "op/part.h"'
expect layers good src/op/one/one.c '#include "op/simd/simd.h"'
expect layers good src/op/one/one_test.c '#include "kit/kit.h"'
expect layers good cli/main.c '#include <furlong/furlong.h>'
expect layers good cli/main.c '#include "cli.h"'
expect layers bad src/op/one/one.c '#include "op/two/two.h"'
expect layers bad src/op/one/one.c '#include "kit/kit.h"'
expect layers bad src/base/a.c '#  include "op/one/one.h"'
expect layers bad src/base/a.c '#include "nowhere.h"'
expect layers bad cli/main.c '#include "base/a.h"'
tree
printf 'base: op\nop:\n' >"$scratch/p/tools/layers.txt"
fault layers 'a cycle'

expect source good src/base/a.c '/* malloc( and printf( in a comment */'
expect source good src/base/a.c 'const char *text = "exit(1) free(p)";'
expect source good src/base/a.c 'void f(struct s *p) { p->free(p); }'
expect source good src/base/alloc.c 'void *f(void) { return malloc(1); }'
expect source good cli/main.c 'int main(void) { return printf("x"); }'
expect source good cli/main.c 'int main(void) { return snprintf(a, 1, "x"); }'
expect source bad src/base/a.c 'void *f(void) { return malloc(1); }'
expect source bad src/base/a.c 'void f(void) { printf("x"); }'
expect source bad src/base/a.c 'void f(void) { abort(); }'
expect source bad src/base/a.c 'int f(void) { return errno ? strerror(errno)[0] : 0; }'
expect source bad cli/main.c 'void f(char *a) { strcpy(a, "x"); }'
expect source bad cli/main.c 'int f(char *a) { return atoi (a); }'
expect source bad src/base/a.c '#include <immintrin.h>'
expect source good src/op/one/one_avx2.c '#include <immintrin.h>'
expect source bad src/base/a.c '#include <mpi.h>'
expect source bad src/base/a.c '#include <dnnl.h>'
expect source bad src/base/a.c '#if 0'
expect source bad src/base/a.c "/* $(printf 'TO%s' DO): later */"
expect source bad src/base/a.c 'int x __attribute__((aligned(4)));'
expect source bad src/base/a.c "/* see $(printf '/ro%s' ot/x) */"
expect source bad src/base/a.c "/* $(printf 'py%s' pi.org) */"
expect source bad src/base/a.c "$(awk 'BEGIN { for (i = 0; i < 801; i++) print "int x;" }')"
tree
echo 'int x;' >"$scratch/p/src/base/a.c"
fault source 'the licence line missing'
echo "checks: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
