# SPDX-License-Identifier: Apache-2.0
"""Writes cases.json beside this file: small tokenizer.json files of each style that bench/peers/tokenizers_ids.py
makes, and the ids and texts that Hugging Face tokenizers 0.23.3 gives for some hard texts. Run from the repository's
root in the environment of the peers: build/peers/bin/python tests/golden/tokenizers/make.py"""
import json
import os
import sys

sys.path.insert(0, "bench/peers")
import tokenizers_ids as make

TEXTS = [
    "", " ", "a", "The quick brown fox jumps over the lazy dog.", "  two  spaces   and\tone tab\n\nnew\r\nlines\r\n\r\n  end  ",
    "don't DON'T I'll we've 'S 's \u017fs x'\u017f", "0123456789 3.14 1,000 \u0663\u0664 \u00bd \u2163",
    "na\u00efve \u00c6gypt \ufb01 \u212b e\u0301 \u1e9b\u0323 \u1100\u1161\u11a8 \u0344",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u4e16\u754c \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f469\u200d\U0001f4bb \U0001f44d\U0001f3fd\u2764\ufe0f \U0001f1e9\U0001f1ea", "a\u00a0b\u3000c\u2009d\u180ee\u200bf\x85g\u2028h",
    "<|endoftext|>x<|im_start|>user <bos> <mask>  y <mask>", "amask mask maskb (mask)", "<|endo<|endoftext|><|endoftext|>",
    "\u2581\u2581x \u2581 \u2581", "int main(void)\n{\n    return 0;\n}\n", "\x00\x01\x7f nul \x00", "<0x41></s>", "zzzzqqqqxxxx" * 8,
    "\u0130stanbul \u1e9e \u03a3\u03c3\u03c2", "a" * 70, "word " * 30,
]
BROKEN = [b"\xff", b"ab\xc3", b"\xe2\x96", b"\xed\xa0\x80x", b"x\xf0\x9f\x98 \x80\xbfy", b"\xc0\x80 \xf8", b" \xffword\xfe "]


def main():
    with open("README.md", encoding="utf-8") as file:
        text = file.read()
    training = [text + "\u4e16\u754c \u041f\u0440\u0438\u0432\u0435\u0442 \U0001f600"]
    make.SIZE = 500
    cases = []
    for style, build, kind in make.STYLES:
        tokenizer = build(training)
        entries = []
        for data in [t.encode() for t in TEXTS] + BROKEN:
            ids = make.oracle(tokenizer, kind, data)
            entry = {"hex": data.hex(), "ids": ids}
            try:
                entry["complete"] = tokenizer.encode(data.decode()).ids
                entry["decoded"] = tokenizer.decode(ids, skip_special_tokens=False)
                entry["skipped"] = tokenizer.decode(ids, skip_special_tokens=True)
            except UnicodeDecodeError:
                pass
            entries.append(entry)
        cases.append({"style": style, "kind": kind, "tokenizer": json.loads(tokenizer.to_str()), "texts": entries})
    with open(os.path.join(os.path.dirname(__file__), "cases.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
