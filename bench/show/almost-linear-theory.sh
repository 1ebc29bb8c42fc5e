# SPDX-License-Identifier: Apache-2.0
# the papers' own setting: head width and degree grow like log n, the bound stays 1, n from 2^10 to 2^20; time exponent and worst entry error of the whole gradient (reported, and plotted against exact in build/theory.svg)
set -eu
cd "$(dirname "$0")/../.."
ROOT=$PWD
. tools/dev/all.sh
most=${1-20}
exact=${2-15}
layers=${3-2}
# shellcheck disable=SC2086 # a list of words
need $packages_build
get_text shakespeare
build_preset release
cmake --build build/release --target theory >build/release/theory.log 2>&1 || {
    cat build/release/theory.log >&2
    die "theory does not build"
}
lengths=
n=10
while [ "$n" -le "$most" ]; do
    lengths="$lengths $((1 << n))"
    n=$((n + 1))
done
say "$layers layers, 4 heads, n up to 2^$most; exact attention of the same bounded model up to 2^$exact"
# shellcheck disable=SC2086 # a list of words
build/release/bench/theory/theory "$text_path" "$layers" $((1 << exact)) $lengths | tee build/theory.txt |
    awk '{ printf "n %8d  width %d, degree %d, %5d features  %9.2f s", $1, $2, $3, $4, $5
           if ($6 > 0) printf "  exact %9.2f s  worst entry %s of the largest, in all %s", $6, $7, $8
           printf "\n" }'
awk '
    function x(n) { return 60 + (log(n) / log(2) - 9.5) * 52 }
    function y(s) { return 330 - (log(s) / log(10) + 2.5) * 52 }
    function fit(from, column,    i, sx, sy, sxx, sxy, m) {
        for (i = from; i <= NR; i++) if (value[i, column] > 0) {
            m++; sx += log(value[i, 1]); sy += log(value[i, column])
            sxx += log(value[i, 1]) ^ 2; sxy += log(value[i, 1]) * log(value[i, column])
        }
        return m > 1 ? (m * sxy - sx * sy) / (m * sxx - sx * sx) : 0
    }
    { for (i = 1; i <= 8; i++) value[NR, i] = $i }
    END {
        svg = "build/theory.svg"
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 380\" font-family=\"sans-serif\" font-size=\"12\">\n<title>Seconds of a whole gradient against n</title>\n<rect width=\"680\" height=\"380\" fill=\"white\"/>\n" >svg
        for (i = -2; i <= 3; i++)
            printf "<line x1=\"60\" x2=\"650\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"54\" y=\"%d\" text-anchor=\"end\">%g s</text>\n", y(10 ^ i), y(10 ^ i), y(10 ^ i) + 4, 10 ^ i >svg
        for (i = 1; i <= NR; i++)
            printf "<text x=\"%d\" y=\"350\" text-anchor=\"middle\">2^%d</text>\n", x(value[i, 1]), log(value[i, 1]) / log(2) + 0.5 >svg
        for (c = 5; c <= 6; c++) {
            printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", c == 5 ? "#0a7" : "#c33" >svg
            for (i = 1; i <= NR; i++) if (value[i, c] > 0) printf "%d,%d ", x(value[i, 1]), y(value[i, c]) >svg
            printf "\"/>\n" >svg
        }
        printf "<text x=\"80\" y=\"30\" fill=\"#0a7\">almost linear, width and degree like log n</text><text x=\"80\" y=\"48\" fill=\"#c33\">exact attention of the same model</text>\n</svg>\n" >svg
        worst = 0
        for (i = 1; i <= NR; i++) worst = value[i, 7] > worst ? value[i, 7] : worst
        printf "exponent of time: %.2f, over the upper half of lengths %.2f; exact %.2f; worst entry error %.1e of the largest entry\n", fit(1, 5), fit(int((NR + 1) / 2), 5), fit(1, 6), worst
        print "picture: " svg
    }' build/theory.txt
