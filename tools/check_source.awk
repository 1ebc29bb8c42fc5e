# SPDX-License-Identifier: Apache-2.0
# The rules of check_source.sh, over any number of files. C is looked at without its comments and strings.

function fail(line, text) {
    print FILENAME ":" line ": " text
    failures++
}

# The line without comments, strings and characters; in_comment goes on over lines.
function code_of(line,   out, i, c, two, quote) {
    out = ""
    quote = ""
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        two = substr(line, i, 2)
        if (in_comment) {
            if (two == "*/") {
                in_comment = 0
                i++
            }
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) quote = ""
        } else if (two == "/*") {
            in_comment = 1
            i++
        } else if (two == "//") {
            break
        } else if (c == "\"" || c == "\047") {
            quote = c
            out = out c
        } else {
            out = out c
        }
    }
    return out
}

function calls(code, names) {
    return match(code, "(^|[^A-Za-z0-9_.>])(" names ")[ \t]*\\(")
}

function end_of_file() {
    if (last == "") return
    if (lines > 800 && is_program) {
        print last ": " lines " lines; 800 is what one can hold in the head"
        failures++
    }
    if (!has_licence && (is_program || last ~ /\.cmake$/ || last ~ /CMakeLists\.txt$/)) {
        print last ":1: no SPDX line"
        failures++
    }
}

BEGIN {
    any_print = "printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror|dprintf"
    any_stop = "exit|_exit|_Exit|abort|quick_exit|atexit|raise|assert"
    any_alloc = "malloc|calloc|realloc|free|aligned_alloc|posix_memalign|memalign|valloc|strdup|strndup|asprintf|" \
                "vasprintf|getline|mmap|munmap|alloca"
    never = "sprintf|vsprintf|strcpy|stpcpy|strcat|strncat|strtok|gets|atoi|atol|atoll|atof|rand|srand|random|" \
            "srandom|drand48|setenv|putenv|setlocale|system|popen|tmpnam|tempnam|mktemp|gmtime|localtime|asctime|ctime|" \
            "strtok_r"
    library_never = "strerror|signal|sigaction" # process-wide state
    # Written so that the pattern is not itself what it looks for.
    known = "(deb|security|ftp[.a-z]*|archive|snapshot)[.]debian[.]org|archive[.]ubuntu[.]com|pypi[.]org|" \
            "pythonhosted[.]org|registry[.]npmjs[.]org|crates[.]io|download[.]pytorch[.]org|proxy[.]golang[.]org"
    while ((getline host < hosts) > 0) {
        gsub(/\./, "[.]", host)
        known = known "|" host
    }
}

FNR == 1 {
    end_of_file()
    last = FILENAME
    in_comment = 0
    has_licence = 0
    is_c = FILENAME ~ /\.[ch]$/
    is_program = is_c || FILENAME ~ /\.(sh|py|awk)$/ || FILENAME == "dev" || FILENAME == ".ci/run"
    library = FILENAME ~ /^src\// && FILENAME !~ /_test[a-z0-9_]*\.[ch]$/
    test = FILENAME ~ /_test[a-z0-9_]*\.[ch]$/ || FILENAME ~ /^tests\//
}

{ lines = FNR }

FNR <= 3 && /SPDX-License-Identifier: Apache-2\.0/ { has_licence = 1 }

# Paths in documents and code alike; "~" and $HOME are a person's own words.
/(^|[^A-Za-z0-9_.\/$}])\/(root|home|work|Users|mnt|opt)\/[A-Za-z0-9_.-]/ { fail(FNR, "a path of someone's machine: " $0) }
$0 ~ "(^|[^a-z0-9.-])(" known ")" { fail(FNR, "a package registry's host: " $0) }

is_program && FILENAME !~ /check_source\.awk$/ {
    if ($0 ~ /(^|[^A-Za-z])(TODO|FIXME|XXX|HACK)([^A-Za-z]|$)/) fail(FNR, "finish it, or file it: " $0)
}

!is_c { next }

/^[ \t]*#[ \t]*if[ \t]+0/ { fail(FNR, "dead code") }

/^[ \t]*#[ \t]*include/ {
    if ($0 ~ /<(immintrin|x86intrin|[a-z]*mmintrin|arm_neon|arm_sve|cpuid)\.h>/ &&
        FILENAME !~ /_(avx2|avx512|amx)[a-z0-9_]*\.c$/ && FILENAME !~ /_simd\.h$/ && FILENAME !~ /^src\/op\/simd\// &&
        FILENAME !~ /^src\/cpu\//)
        fail(FNR, "intrinsics belong in a variant's file")
    if ($0 ~ /<mpi\.h>/ && FILENAME != "src/comm/mpi.c") fail(FNR, "only src/comm/mpi.c includes mpi.h")
    if ($0 ~ /<dnnl/ && library && FILENAME !~ /^src\/op\/matmul\//) fail(FNR, "oneDNN is behind src/op/matmul")
    next
}

{
    code = code_of($0)
    if (code ~ /__attribute__|__builtin_|__asm|_Pragma|(^|[^A-Za-z0-9_])_*typeof/ && library && FILENAME != "src/base/compiler.h" &&
        FILENAME !~ /^src\/cpu\// && FILENAME !~ /^src\/op\/simd\//)
        fail(FNR, "compiler extensions belong in src/base/compiler.h: " $0)
    if (calls(code, never) && !(test && calls(code, "setenv|putenv|system|popen")) &&
        !(FILENAME ~ /^cli\// && calls(code, "setlocale")))
        fail(FNR, "never called here: " $0)
    if (!library) next
    if (calls(code, library_never)) fail(FNR, "the library leaves the process alone: " $0)
    if (calls(code, any_print)) fail(FNR, "the library does not print: " $0)
    if (calls(code, any_stop)) fail(FNR, "the library does not stop the program: " $0)
    if (calls(code, any_alloc) && FILENAME != "src/base/alloc.c") fail(FNR, "only src/base/alloc.c allocates: " $0)
}

END {
    end_of_file()
    exit failures > 0
}
