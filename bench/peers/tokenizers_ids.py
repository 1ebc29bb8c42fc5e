# SPDX-License-Identifier: Apache-2.0
"""tokenizers_ids.py FURLONG WORK-FOLDER ENGLISH: tokenizer.json files in the styles of GPT-2, Llama 2 and 3, Qwen,
SmolLM2, Gemma and T5 are made by Hugging Face tokenizers (small vocabularies, trained here), and about 10 MB of mixed
text is encoded by it and by the program: the ids must be the same, all of them. Prints a line per style; exits 1 when
one misses.

Hugging Face takes text, not bytes. Where a file is not UTF-8, each stray byte b is shown to it as U+E000 + b, which is
neither letter nor digit nor space either, and what its model makes of the bytes themselves is compared: its pieces with
the byte put back (byte-level), or its three byte tokens for U+E000 + b replaced by that of b (byte fallback). Models
without tokens for bytes see U+FFFD, as Python's errors="replace" gives it."""
import json
import os
import random
import subprocess
import sys
import time
import unicodedata

import numpy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")
SPACE = "\u2581"
SIZE = 6000  # of the vocabularies trained here
# (first, last) of the letters of a script
SCRIPTS = {
    "Latin": (0xC0, 0x24F), "Greek": (0x391, 0x3C9), "Cyrillic": (0x410, 0x44F), "Armenian": (0x561, 0x586),
    "Hebrew": (0x5D0, 0x5EA), "Arabic": (0x620, 0x64A), "Devanagari": (0x904, 0x94D), "Bengali": (0x985, 0x9CD),
    "Gujarati": (0xA85, 0xACD), "Tamil": (0xB85, 0xBCD), "Telugu": (0xC05, 0xC4D), "Thai": (0xE01, 0xE4E),
    "Tibetan": (0xF40, 0xF84), "Myanmar": (0x1000, 0x1049), "Georgian": (0x10D0, 0x10FF), "Hangul": (0xAC00, 0xD7A3),
    "Ethiopic": (0x1200, 0x135A), "Khmer": (0x1780, 0x17D2), "Hiragana": (0x3041, 0x309F), "Katakana": (0x30A0, 0x30FF),
    "Han": (0x4E00, 0x9FFF), "jamo": (0x1100, 0x11FF),
}
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\u00a0", "\u3000", "\u2009", "\u180e",
          "\u200b", "\x85", "\x0b", "\u2028"]
MARKS = ["\u0301", "\u0300", "\u0323", "\u0308", "\u0327", "\u0345", "\u3099", "\u094d"]
EMOJI = ["\U0001f600", "\U0001f469\u200d\U0001f4bb", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f",
         "\U0001f40e", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
ODD = ["'S", "'ll", "it's", "I'\u017f", "don't", "\u212a", "\ufb01", "\u00bd", "\u2163", "x\u00b2", "\u0130", "\u1e9e",
       "0123456789", "3.14159", "1,000,000", "\u0663\u0664", "a_b", "--", "...", "<|endoftext|>", "<|im_start|>",
       "<bos>", "<|endo", "\x00", "\u00ad", "\ufeff", "\u2581", "\u2581\u2581", "</s>", "<0x41>", "e\u0301", "\u1100\u1161\u11a8",
       "\U0001d400", "\ufdfa", "http://a.b/c?d=e&f", "#include <x.h>", "{\"k\": [1, 2]}", "word<mask>", " <mask> x", "amask mask maskb"]


def is_old(code):
    """Whether a character was there in Unicode 3.2: later ones are classed and normalised by the tables of each library,
    which are of Unicode 14 and 15 in PCRE2 and utf8proc here, and older in Hugging Face tokenizers."""
    return unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs", "Co")


def mixed(generator, count):
    """Words of every script, with marks, emoji, odd ones and spaces of every kind."""
    letters = [[chr(c) for c in range(first, last + 1) if is_old(c)] for first, last in SCRIPTS.values()]
    parts = []
    for _ in range(count):
        kind = generator.random()
        if kind < 0.7:
            script = generator.choice(letters)
            word = [generator.choice(script) for _ in range(generator.randint(1, 9))]
            if generator.random() < 0.15:
                word.insert(generator.randint(1, len(word)), "".join(generator.sample(MARKS, generator.randint(1, 3))))
            parts.append("".join(word))
        elif kind < 0.85:
            parts.append(generator.choice(ODD))
        elif kind < 0.95:
            parts.append(generator.choice(EMOJI) * generator.randint(1, 3))
        else:
            parts.append("".join(generator.choice(SPACES) for _ in range(generator.randint(1, 12))))
        parts.append(generator.choice(SPACES))
    return "".join(parts)


def any_characters(generator, count):
    """Characters from all of Unicode."""
    known = [c for c in range(1, 0x30000) if is_old(c)]
    return "".join(chr(generator.choice(known)) + (generator.choice(SPACES) if generator.random() < 0.2 else "")
                   for _ in range(count))


def broken(generator, text, count):
    """Text as bytes with some overwritten, cut out or put in: no longer UTF-8."""
    data = bytearray(text.encode())
    for _ in range(count):
        at = generator.randrange(len(data))
        kind = generator.random()
        if kind < 0.4:
            data[at] = generator.randrange(256)
        elif kind < 0.7:
            del data[at]
        else:
            data[at:at] = bytes(generator.randrange(0x80, 256) for _ in range(generator.randint(1, 4)))
    known = set(text)
    while True:  # what is left out may leave bytes side by side that are a character together
        whole = data.decode("utf-8", errors="surrogateescape")
        kept = "".join(c for c in whole if c in known or is_old(ord(c)) or 0xDC80 <= ord(c) <= 0xDCFF)
        data = kept.encode("utf-8", errors="surrogateescape")
        if kept == whole:
            return data


def code():
    """The sources of this repository."""
    parts = []
    for root in ("src", "cli", "tests", "bench", "docs"):
        for folder, _, files in sorted(os.walk(root)):
            for name in sorted(files):
                if name.endswith((".c", ".h", ".py", ".sh", ".md", ".txt")):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        parts.append(file.read())
    return "\n".join(parts)


# ---- tokenizers ------------------------------------------------------------------------------------------------------

def train_bpe(tokenizer, texts, size, alphabet, specials=()):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=list(specials),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


def byte_level(texts, split, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    model = train_bpe(tokenizer, texts, SIZE, pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.model = models.BPE(model["vocab"], merges, ignore_merges=ignore_merges)
    return tokenizer


def gpt2(texts):
    tokenizer = byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=True, special=True)])
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("\r\n\r\n", rstrip=True)])
    return tokenizer


def words_alone(texts):
    """single_word, and a prefix space before every text."""
    tokenizer = byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFKC())
    tokenizer.add_tokens([AddedToken("mask", single_word=True, normalized=True), AddedToken("<mask>", rstrip=True)])
    return tokenizer


def llama3(texts):
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = byte_level(texts, split, ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|endoftext|>"])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)])])
    return tokenizer


def qwen(texts):
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = byte_level(texts, split, normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


def smollm2(texts):
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer = byte_level(texts, split)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


def with_fallback(texts):
    """Vocabulary and merges in the style of SentencePiece: words with the space in front, a token for each byte."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<unk>", "<bos>", "<eos>"] + [f"<0x{b:02X}>" for b in range(256)]
    model = train_bpe(tokenizer, texts, SIZE, [SPACE], specials)
    vocabulary = {token: id for token, id in model["vocab"].items()
                  if "\0" not in token  # as a key of an object it is refused by jansson
                  and (len(token) > 1 or ord(token) < 0x250 or token == SPACE or random.Random(token).random() < 0.3)}
    merges = [tuple(merge) for merge in model["merges"]
              if merge[0] in vocabulary and merge[1] in vocabulary]
    order = {token: id for id, token in enumerate(sorted(vocabulary, key=vocabulary.get))}
    run = SPACE + SPACE
    order[run] = len(order)
    merges.append((SPACE, SPACE))
    return models.BPE(order, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def gemma(texts):
    tokenizer = Tokenizer(with_fallback(texts))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<bos>", "<eos>"])
    tokenizer.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(2, 6)])
    tokenizer.add_tokens([AddedToken(SPACE * n, normalized=False) for n in range(2, 6)])
    return tokenizer


def llama2(texts):
    tokenizer = Tokenizer(with_fallback(texts))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<bos>", "<eos>"])
    return tokenizer


def unigram(texts, fallback, steps, metaspace):
    tokenizer = Tokenizer(models.Unigram())
    if steps:
        tokenizer.normalizer = steps
    tokenizer.pre_tokenizer = metaspace
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=metaspace.prepend_scheme)
    specials = ["<unk>", "<bos>"] + ([f"<0x{b:02X}>" for b in range(256)] if fallback else [])
    texts = [text[:400000 if i < 2 else 3000] for i, text in enumerate(texts[:3])]  # every character needs a token
    tokenizer.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=specials,
                                                                 unk_token="<unk>", show_progress=False))
    content = json.loads(tokenizer.to_str())
    content["model"]["byte_fallback"] = fallback
    content["added_tokens"] = content["added_tokens"][:2]
    if fallback:
        content["decoder"] = {"type": "Sequence", "decoders": [content["decoder"], {"type": "ByteFallback"}]}
    return Tokenizer.from_str(json.dumps(content))


STYLES = [
    ("GPT-2", gpt2, "bytes"), ("Llama 3", llama3, "bytes"), ("Qwen", qwen, "bytes"), ("SmolLM2", smollm2, "bytes"),
    ("words alone", words_alone, "bytes"), ("Gemma", gemma, "fallback"), ("Llama 2", llama2, "fallback"),
    ("T5", lambda t: unigram(t, False, normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
                             pre_tokenizers.Metaspace(prepend_scheme="always")), "replace"),
    ("Unigram, byte fallback", lambda t: unigram(t, True, None, pre_tokenizers.Metaspace(prepend_scheme="first")),
     "fallback"),
]

WHOLE = ("GPT-2", "Llama 3", "Qwen", "Gemma")  # the others without the plainest text, which takes Hugging Face the longest

# ---- ids by Hugging Face ---------------------------------------------------------------------------------------------

BYTE_CHARACTER = {}
for _byte in range(256):
    _printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    BYTE_CHARACTER[_byte] = chr(_byte) if _byte in _printable else chr(256 + _byte - sum(b < _byte for b in _printable))


def stand_ins(data):
    return "".join(chr(0xE000 + ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c
                   for c in data.decode("utf-8", errors="surrogateescape"))


def oracle(tokenizer, kind, data):
    try:
        return tokenizer.encode(data.decode(), add_special_tokens=False).ids
    except UnicodeDecodeError:
        pass
    if kind == "replace":
        return tokenizer.encode(data.decode(errors="replace"), add_special_tokens=False).ids
    text = stand_ins(data)
    if kind == "fallback":
        byte = [tokenizer.model.token_to_id(f"<0x{b:02X}>") for b in range(256)]
        ids, out = tokenizer.encode(text, add_special_tokens=False).ids, []
        second = {byte[0x82]: 0x80, byte[0x83]: 0xC0}
        third = {byte[0x80 + b]: b for b in range(64)}
        at = 0
        while at < len(ids):
            if ids[at] == byte[0xEE] and at + 2 < len(ids) and ids[at + 1] in second and ids[at + 2] in third:
                out.append(byte[second[ids[at + 1]] + third[ids[at + 2]]])
                at += 3
            else:
                out.append(ids[at])
                at += 1
        return out
    if tokenizer.normalizer:
        text = tokenizer.normalizer.normalize_str(text)
    out = []
    lead = BYTE_CHARACTER[0xEE]
    table = {lead + BYTE_CHARACTER[0x80 | (0xE000 + b) >> 6 & 0x3F] + BYTE_CHARACTER[0x80 | b & 0x3F]: BYTE_CHARACTER[b]
             for b in range(0x80, 0x100)}
    for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
        at = piece.find(lead)
        while at >= 0:
            if piece[at:at + 3] in table:
                piece = piece[:at] + table[piece[at:at + 3]] + piece[at + 3:]
            at = piece.find(lead, at + 1)
        out.extend(token.id for token in tokenizer.model.tokenize(piece))
    return out


def learned(program, work, english, data):
    """Whether `furlong tokenizer train` learns the merges that Hugging Face's trainer does, and Hugging Face loads its
    file with the same ids."""
    folder = f"{work}/learned"
    start = time.perf_counter()
    subprocess.run([program, "tokenizer", "train", "-f", english, "--vocab-size", "4000", "-o", folder], check=True,
                   stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    ours = Tokenizer.from_file(f"{folder}/tokenizer.json")
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = ours.pre_tokenizer
    with open(english, encoding="utf-8") as file:
        text = file.read()
    start = time.perf_counter()
    model = train_bpe(theirs, [text], 3999, pre_tokenizers.ByteLevel.alphabet())
    their_seconds = time.perf_counter() - start
    own = json.loads(ours.to_str())["model"]
    same = own["merges"] == model["merges"] and own["vocab"] == model["vocab"]
    subprocess.run([program, "tokenizer", "encode", "--tokenizer", folder, "-f", f"{work}/mixed", "-o", f"{folder}/ids.npy"],
                   check=True, stderr=subprocess.DEVNULL)
    ids = ours.encode(data.decode(), add_special_tokens=False).ids
    loads = numpy.array_equal(numpy.load(f"{folder}/ids.npy"), ids)
    print(f"{'learned':24s} {len(own['merges']):>9,} merges, {'all the same' if same else 'DIFFERENT'}, "
          f"{seconds:.2f} s (Hugging Face {their_seconds:.2f}); its {len(ids):,} ids "
          f"{'all the same' if loads else 'DIFFERENT'}")
    return same and loads


def main():
    program, work, english = sys.argv[1:4]
    generator = random.Random(1)
    with open(english, encoding="utf-8") as file:
        bible = file.read()
    sources = code()
    scripts = mixed(generator, 150000)
    everything = any_characters(generator, 60000)
    training = [bible[:400000], sources[:400000], scripts[:150000], everything[:20000]]
    plain = mixed(generator, 20000)
    for token in ("<|endoftext|>", "<|im_start|>", "<bos>", "</s>", "<mask>", "mask", "\r\n\r\n", "\n\n", SPACE):
        plain = plain.replace(token, "x")
    files = {"english": bible[-2500000:].encode(), "code": sources[-2500000:].encode(), "scripts": scripts.encode(),
             "all": everything.encode(), "spaces": (" " * 150000 + "x" + "\n" * 70000 + "\t \n" * 30000).encode(),
             "one word": (bible[:200000].replace(" ", "").replace("\n", "")).encode(),
             "mixed": mixed(generator, 100000).encode(), "broken": broken(generator, plain, 20000)}
    total = sum(len(data) for data in files.values())
    print(f"{total / 1e6:.1f} MB in {len(files)} files: " + ", ".join(f"{n} {len(d):,}" for n, d in files.items()))
    for name, data in files.items():
        with open(f"{work}/{name}", "wb") as file:
            file.write(data)
    failed = 0
    for style, make, kind in STYLES:
        tokenizer = make(training)
        folder = f"{work}/{style.replace(' ', '-')}"
        os.makedirs(folder)
        tokenizer.save(f"{folder}/tokenizer.json")
        wrong, count, seconds, their_seconds, size = [], 0, 0.0, 0.0, 0
        for name, data in files.items():
            if style not in WHOLE and name in ("english", "code"):
                continue
            size += len(data)
            out = f"{folder}/{name}.npy"
            report = subprocess.run([program, "tokenizer", "encode", "--tokenizer", folder, "-f", f"{work}/{name}", "-o", out,
                                     "--json"], stdout=subprocess.PIPE, check=True)
            seconds += json.loads(report.stdout)["seconds"]
            ours = numpy.load(out)
            start = time.perf_counter()
            theirs = numpy.array(oracle(tokenizer, kind, data), dtype=numpy.int64)
            their_seconds += time.perf_counter() - start
            count += len(theirs)
            if not numpy.array_equal(ours, theirs):
                short = min(len(ours), len(theirs))
                differs = numpy.nonzero(ours[:short] != theirs[:short])[0]
                at = int(differs[0]) if len(differs) else short
                near = [tokenizer.id_to_token(int(i)) for i in theirs[max(at - 3, 0):at + 4]]
                mine = [tokenizer.id_to_token(int(i)) for i in ours[max(at - 3, 0):at + 4]]
                wrong.append(f"{name}: from id {at} of {len(theirs)}: {mine} for {near}")
        print(f"{style:24s} {size / 1e6:4.1f} MB, {count:>9,} ids, {'all the same' if not wrong else 'DIFFERENT'}; "
              f"{size / seconds / 1e6:.1f} MB/s (Hugging Face {size / their_seconds / 1e6:.2f})", flush=True)
        for line in wrong:
            print("    " + line)
        failed += bool(wrong)
    failed += not learned(program, work, english, files["mixed"])
    print(f"{len(STYLES) + 1 - failed} of {len(STYLES) + 1} tokenizers with the same ids (target: all)")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
