# SPDX-License-Identifier: Apache-2.0
"""generate.py HEADERS OUT: the C source of the extension module, made from the public headers, so that the package calls
what they declare and the compiler checks every layout."""
import pathlib
import re
import sys

import cffi

CALLBACKS = """
extern "Python" {
    void furlong_python_log(void *user, fur_log_level level, const char *line);
    int furlong_python_token(void *user, int32_t id);
}
"""


def declarations(headers):
    """What the headers declare, without what only a C compiler understands, in the order of furlong.h's includes."""
    umbrella = (headers / "furlong.h").read_text()
    text, seen, constants = [], set(), {}

    def add(name):
        if name in seen:
            return
        seen.add(name)
        lines = re.sub(r"/\*.*?\*/", "", (headers / name).read_text(), flags=re.S)
        for inner in re.findall(r'#include "furlong/(\w+\.h)"', lines):
            add(inner)
        for key, value in re.findall(r"^#define (FUR_[A-Z_]+)\s+(\d+)\s*$", lines, flags=re.M):
            constants[key] = value
        lines = re.sub(r"^\s*#.*(\\\n.*)*$", "", lines, flags=re.M)
        lines = re.sub(r'extern "C" \{', "", lines)
        text.append(re.sub(r"^\}\s*$", "", lines, flags=re.M).replace("FUR_API ", ""))

    for name in re.findall(r'#include "furlong/(\w+\.h)"', umbrella):
        add(name)
    text.append("const char *fur_version(void);")
    joined = "\n".join(text)
    for key, value in constants.items():
        joined = re.sub(rf"\b{key}\b", value, joined)
    return joined


def main(headers, out):
    builder = cffi.FFI()
    builder.cdef(declarations(pathlib.Path(headers)) + CALLBACKS)
    builder.set_source("furlong._native", '#include "furlong/furlong.h"')
    builder.emit_c_code(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
