# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Build and test, by preset of CMakePresets.json.

# build_preset NAME [CMAKE-OPTION...]: configures and builds build/NAME
build_preset() {
    build_preset_name=$1
    shift
    build_preset_start=$(now)
    build_preset_log=build/$build_preset_name/configure.log
    # CMake refuses a build folder that came along when the tree was copied or moved.
    if [ -f "build/$build_preset_name/CMakeCache.txt" ] &&
        ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$ROOT" "build/$build_preset_name/CMakeCache.txt"; then
        rm -rf "build/$build_preset_name"
    fi
    mkdir -p "build/$build_preset_name"
    cmake --preset "$build_preset_name" "$@" >"$build_preset_log" 2>&1 || {
        cat "$build_preset_log" >&2
        die "could not configure build/$build_preset_name"
    }
    # On a terminal ninja keeps to one line; elsewhere its many lines go to a file, shown where it fails.
    if [ -t 2 ]; then
        cmake --build "build/$build_preset_name" -j "$(processors)" >&2
    else
        cmake --build "build/$build_preset_name" -j "$(processors)" >"build/$build_preset_name/build.log" 2>&1 || {
            tail -n 60 "build/$build_preset_name/build.log" >&2
            false
        }
    fi || die "build/$build_preset_name does not build"
    say "built build/$build_preset_name in $(since "$build_preset_start")"
}

# build_release: what users run, with the packages it needs
build_release() {
    # shellcheck disable=SC2086 # a list of words
    need $packages_build
    build_preset release
}

# one_and_two: the numbers of threads to measure with
one_and_two() {
    if [ "$(processors)" -ge 2 ]; then echo 1 2; else echo 1; fi
}

# run_tests PRESET [CTEST-OPTION...]: ctest, and tests_line, one line that counts, for the verb to end with
run_tests() {
    run_tests_dir=build/$1
    shift
    run_tests_log=$ROOT/$run_tests_dir/test.log
    run_tests_status=$ROOT/$run_tests_dir/test.status
    { ctest --test-dir "$run_tests_dir" -j "$(processors)" --output-on-failure --no-tests=error "$@" 2>&1 </dev/null
        echo $? >"$run_tests_status"; } | tee "$run_tests_log"
    run_tests_code=$(cat "$run_tests_status")
    tests_line=$(awk '
        / tests? passed, .* tests? failed out of / {
            for (i = 2; i <= NF; i++) {
                if ($i == "failed") failed = $(i - 2)
                if ($i == "of") total = $(i + 1)
            }
            seen = 1
        }
        / Test *#[0-9]+: .*\*\*\*Skipped/ { skipped++ }
        END {
            if (seen)
                printf "tests: %d passed, %d failed, %d skipped\n", total - failed - skipped, failed, skipped
        }' "$run_tests_log")
    return "$run_tests_code"
}

verb_build() {
    build_name=release
    case ${1-} in
    '' | -*) ;;
    *)
        build_name=$1
        shift
        ;;
    esac
    build_needs=$packages_build
    case $build_name in
    release) ;;
    test | dev | minimal) build_needs="$build_needs $packages_test" ;;
    asan) build_needs="$build_needs $packages_test" ;;
    clang | tsan) build_needs="$build_needs $packages_test $packages_clang" ;;
    fuzz) build_needs="$build_needs $packages_clang" ;;
    aarch64) die "./dev cross builds for aarch64" ;;
    *) die "no preset '$build_name'; there are: release test dev clang asan tsan fuzz minimal" ;;
    esac
    # shellcheck disable=SC2086 # lists of words, here and below
    need $build_needs
    build_preset "$build_name" "$@"
}

# The instruction sets of this build that this machine cannot run, with the operators that have a variant for them;
# stops when one that --require-isa names is among them.
report_variants() {
    report_variants_tool=build/test/tests/test_variants
    if [ ! -x "$report_variants_tool" ]; then
        say "variants: not known, $report_variants_tool was not built"
        [ -z "$1" ] || die "cannot tell whether this machine runs $1"
        return 0
    fi
    report_variants_text=$("$report_variants_tool") || die "$report_variants_tool failed"
    report_variants_run=$(printf '%s\n' "$report_variants_text" | sed -n 's/^available: *//p')
    report_variants_not=$(printf '%s\n' "$report_variants_text" | sed -n 's/^missing: *//p')
    echo "instruction sets tested here: $report_variants_run"
    if [ -z "$report_variants_not" ]; then
        echo "variants not run here: none"
    fi
    for report_variants_isa in $report_variants_not; do
        printf 'variants not run here: %s of' "$report_variants_isa"
        sed -n 's/^ *fur_add_op(\(.*\)) *$/\1/p' src/op/CMakeLists.txt | awk -v isa="$report_variants_isa" '
            { for (i = 2; i <= NF; i++) if ($i == isa) printf " %s", $1 }
            END { print "" }'
    done
    for report_variants_isa in $1; do
        case " $report_variants_run " in
        *" $report_variants_isa "*) ;;
        *) die "--require-isa $report_variants_isa: this machine or this build does not have it" ;;
        esac
    done
}

verb_test() {
    test_start=$(now)
    test_isas=
    while [ $# -gt 0 ]; do
        case $1 in
        --require-isa)
            [ $# -ge 2 ] || die "--require-isa wants a name, such as avx512"
            test_isas="$test_isas $2"
            shift 2
            ;;
        --require-isa=*)
            test_isas="$test_isas ${1#*=}"
            shift
            ;;
        --)
            shift
            break
            ;;
        *) break ;;
        esac
    done
    # shellcheck disable=SC2086
    need $packages_build $packages_test
    build_preset test
    report_variants "$test_isas"
    test_code=0
    run_tests test --timeout 600 "$@" || test_code=$?
    echo "./dev test took $(since "$test_start")"
    [ -z "$tests_line" ] || echo "$tests_line"
    return "$test_code"
}

verb_asan() {
    # shellcheck disable=SC2086
    need $packages_build $packages_test
    build_preset asan
    asan_code=0
    # Tests ask for more memory than there is on purpose: that must come back as NULL, as it does without a sanitizer.
    # Its stack for use after return is aligned to 32 bytes; GCC 12 stores AVX-512 vectors there as if to 64 (GCC bug 110027).
    ASAN_OPTIONS="allocator_may_return_null=1:detect_stack_use_after_return=0:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}" \
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}" \
        run_tests asan --timeout 1800 "$@" || asan_code=$?
    [ -z "$tests_line" ] || echo "$tests_line"
    return "$asan_code"
}

verb_tsan() {
    # shellcheck disable=SC2086
    need $packages_build $packages_test $packages_clang
    build_preset tsan
    tsan_code=0
    tsan_archer=$(clang -print-file-name=libarcher.so)
    [ -e "$tsan_archer" ] || tsan_archer=$(clang -print-resource-dir)/../../libarcher.so
    [ -e "$tsan_archer" ] || die "clang's OpenMP runtime has no libarcher.so: every barrier would look like a race"
    OMP_TOOL_LIBRARIES=$tsan_archer OMP_NUM_THREADS=2 \
        TSAN_OPTIONS="allocator_may_return_null=1:ignore_noninstrumented_modules=1:halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}" \
        run_tests tsan --timeout 1800 "$@" || tsan_code=$?
    [ -z "$tests_line" ] || echo "$tests_line"
    return "$tsan_code"
}

# fuzz [TARGET] [SECONDS]: each target for a time, from its committed corpus; finds are kept under build/fuzz
verb_fuzz() {
    fuzz_only=
    fuzz_seconds=30
    for fuzz_word in "$@"; do
        case $fuzz_word in
        *[!0-9]*) fuzz_only=$fuzz_word ;;
        *) fuzz_seconds=$fuzz_word ;;
        esac
    done
    # shellcheck disable=SC2086
    need $packages_build $packages_clang
    build_preset fuzz
    fuzz_run=0
    fuzz_failed=0
    for fuzz_program in build/fuzz/tests/fuzz/fuzz_*; do
        if [ ! -f "$fuzz_program" ] || [ ! -x "$fuzz_program" ]; then continue; fi
        fuzz_name=${fuzz_program##*/fuzz_}
        [ -z "$fuzz_only" ] || [ "$fuzz_only" = "$fuzz_name" ] || continue
        fuzz_found=build/fuzz/found/$fuzz_name
        mkdir -p "$fuzz_found" "build/fuzz/crashes"
        fuzz_run=$((fuzz_run + 1))
        say "fuzzing $fuzz_name for $fuzz_seconds s"
        set -- "$fuzz_found"
        [ ! -d "tests/fuzz/corpus/$fuzz_name" ] || set -- "$@" "tests/fuzz/corpus/$fuzz_name"
        "$fuzz_program" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="build/fuzz/crashes/$fuzz_name-" "$@" >"build/fuzz/$fuzz_name.log" 2>&1 || {
            tail -n 40 "build/fuzz/$fuzz_name.log" >&2
            fuzz_failed=$((fuzz_failed + 1))
        }
        grep -E '^stat::number_of_executed_units' "build/fuzz/$fuzz_name.log" >&2 || true
    done
    [ "$fuzz_run" -gt 0 ] || die "no fuzz target ${fuzz_only:+named $fuzz_only }in tests/fuzz"
    echo "fuzz: $((fuzz_run - fuzz_failed)) passed, $fuzz_failed failed"
    [ "$fuzz_failed" -eq 0 ]
}
