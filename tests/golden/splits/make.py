# SPDX-License-Identifier: Apache-2.0
"""Writes cases.json beside this file: pre-tokenizers and normalizers of every kind that is read, and what Hugging Face
tokenizers 0.23.3 makes of some texts by them. Run in an environment with tokenizers."""
import json
import os

from tokenizers import Regex, normalizers, pre_tokenizers

PATTERNS = [
    r"\s+", r"[aeiou]", r"\d+|x*", r"(?i:the|s)", r"\w+|[^\w\s]+", r"\p{Han}+", "[\u4e00-\u9fa5\u0800-\u4e00]+", r"\h+", r"(?<=a)b",
    r"^a|b$", r"[^\s\w]+", r"\v|\t", r"\u0041|\x42|\x{43}", r"(?:a|ab)(?:c|bcd)*", r"a{2}|b{1,2}", r"{|}", r"(?>a+)b|a", r"\p{^L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+",
]
BEHAVIORS = ["isolated", "removed", "contiguous", "merged_with_previous", "merged_with_next"]
TEXTS = [
    "a", "  a b  ", "The quick THE ab abb aab", "x1y22 z333\u0663\u00bd\u2163", "caf\u00e9 \u00c9T\u00c9 e\u0301 \u0130 \u017f's",
    "\u4e16\u754c\u3001\u3053\u3093 \uac00\ub098 \u0e2a\u0e27", "a\nb\r\n\r\nc\t\u3000d\u180ee\u00a0\x85f\x0bg", "{a}, [b]; (c)! -- \u201cq\u201d \u00a3 \u2260 _x_",
    "\u2581a \u2581\u2581b", "ABCabcbcd aaab", "\U0001f469\u200d\U0001f4bb\u2764\ufe0f\U0001d400", "#include <x.h> // it's we'LL",
    "\ufb01 \u1e9b\u0323 \u212b \u2460 \ufdfa \u1100\u1161\u11a8 \u0344 \u1e69 q\u0307\u0323", "",
]


def main():
    cases = []
    splitters = [pre_tokenizers.Split(Regex(p), b, invert) for p in PATTERNS for b in BEHAVIORS for invert in (False, True)]
    splitters += [pre_tokenizers.Split(p, b) for p in (" ", "ab", "\u2581") for b in BEHAVIORS]
    splitters += [pre_tokenizers.Digits(single) for single in (True, False)]
    splitters += [pre_tokenizers.Punctuation(b) for b in BEHAVIORS]
    splitters += [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()]
    splitters += [pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
                  for scheme in ("always", "first", "never") for split in (True, False)]
    splitters += [pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
                  pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.Punctuation("contiguous"),
                                           pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated")])]
    for splitter in splitters:
        described = json.loads(splitter.__getstate__())
        cases.append({"pre_tokenizer": described,
                      "texts": [{"text": t, "pieces": [p for p, _ in splitter.pre_tokenize_str(t)]} for t in TEXTS]})
    changes = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
               normalizers.Replace(" ", "\u2581"), normalizers.Replace(Regex(r"\s+|x*"), "-"), normalizers.Prepend("\u2581"),
               normalizers.Strip(True, True), normalizers.Strip(True, False), normalizers.Strip(False, True),
               normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("a", ""),
                                     normalizers.Prepend("a"), normalizers.Strip()])]
    for change in changes:
        cases.append({"normalizer": json.loads(change.__getstate__()),
                      "texts": [{"text": t, "pieces": [change.normalize_str(t)]} for t in TEXTS]})
    with open(os.path.join(os.path.dirname(__file__), "cases.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
