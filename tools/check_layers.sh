#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks who includes whom: rooms of src/ by the order in tools/layers.txt, an operator nothing of another operator,
# programs and examples the public headers alone. An include of a room's header is written "room/file.h".
set -eu
cd "$(dirname "$0")/.."

{
    sed 's/^/layers:/' tools/layers.txt
    for place in src cli examples; do
        [ -d "$place" ] || continue
        find "$place" -name '*.[ch]' | LC_ALL=C sort | while IFS= read -r file; do
            awk -v file="$file" '
                /^[ \t]*#[ \t]*include[ \t]*["<]/ {
                    line = $0
                    sub(/^[^"<]*/, "", line)
                    kind = substr(line, 1, 1)
                    line = substr(line, 2)
                    sub(/[">].*/, "", line)
                    print "include:" file ":" NR ":" kind ":" line
                }' "$file"
        done
    done
} | awk -F: '
    function fail(text) {
        print text
        failures++
    }
    function exists(path,   line, there) {
        there = (getline line < path) >= 0
        close(path)
        return there
    }
    $1 == "layers" {
        if ($2 ~ /^#/ || $2 == "") next
        room = $2
        rooms[room] = 1
        n = split($3, names, " ")
        for (i = 1; i <= n; i++) {
            # Every room named must stand on an earlier line, so the order has no cycle.
            if (!(names[i] in rooms)) fail("tools/layers.txt: " room " names " names[i] ", which is not above it")
            may[room, names[i]] = 1
        }
        next
    }
    {
        file = $2
        place = file ":" $3 ": "
        kind = $4
        path = $5
        n = split(file, part, "/")
        split(path, want, "/")
        includes++
    }
    want[1] == "furlong" { next }
    part[1] != "src" {
        if (kind == "<" && !(want[1] in rooms)) next
        directory = file
        sub(/[^\/]*$/, "", directory)
        if (kind == "<" || !exists(directory path))
            fail(place "<furlong/...> and its own headers are all that " part[1] " may include, not \"" path "\"")
        next
    }
    kind == "<" { next }
    {
        room = part[2]
        if (!(room in rooms)) {
            fail(place "room " room " is not in tools/layers.txt")
            next
        }
        directory = file
        sub(/[^\/]*$/, "", directory)
        test = file ~ /_test[a-z0-9_]*\.[ch]$/
        if (path !~ /\//) {
            if (!exists(directory path)) fail(place "\"" path "\" is not beside it; write \"room/file.h\"")
            next
        }
        if (test && (want[1] == "kit" || want[1] == "tests")) next
        if (!(want[1] in rooms)) {
            fail(place "\"" path "\" is no header of a room")
            next
        }
        if (room == "op" && want[1] == "op") {
            deep = path
            slashes = gsub(/\//, "/", deep)
            if (slashes > 1 && want[2] != part[3] && want[2] != "simd")
                fail(place "operator " part[3] " includes operator " want[2])
            next
        }
        if (want[1] != room && !((room, want[1]) in may))
            fail(place "room " room " may not include room " want[1] " (tools/layers.txt)")
    }
    END {
        printf "layers: %d includes, %d wrong\n", includes, failures
        exit failures > 0
    }'
