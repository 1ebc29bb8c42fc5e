# SPDX-License-Identifier: Apache-2.0
"""Which heads of a pretrained model could do with almost-linear attention, and what that would cost.

    python audit_pretrained.py MODEL-FOLDER TEXT [TOKENS] [MAX-ERROR] [OUT]

MODEL-FOLDER in Hugging Face form, of a family that Furlong reads; with its tokenizer's files the text goes through
transformers' tokenizer, without them it is taken as bytes. The heads that can are saved to OUT as a Furlong model.
"""
import pathlib
import sys

import numpy

import furlong


def ids_of(folder, text):
    if any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        import transformers
        return numpy.array(transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"])
    return numpy.frombuffer(text.encode(), numpy.uint8).astype(numpy.int32)


folder = pathlib.Path(sys.argv[1])
ids = ids_of(folder, pathlib.Path(sys.argv[2]).read_text(errors="replace"))
tokens = int(sys.argv[3]) if len(sys.argv) > 3 else None
max_error = float(sys.argv[4]) if len(sys.argv) > 4 else 1e-2
model = furlong.load(folder)
audit = furlong.audit(model, ids, tokens=tokens, max_error=max_error, max_tokens=1 << 16)

print(f"{model}: heads whose output would be off by at most {max_error:g}")
for head in audit.heads:
    print(f"layer {head.layer:2} head {head.head:2}: output off by {head.o.value:.1e} ({head.o.low:.1e} to {head.o.high:.1e}), "
          f"{100 * head.far_share:4.1f} % of its attention is far: {'stays exact' if head.exact else 'almost-linear'}")
good = sum(not head.exact for head in audit.heads)
print(f"{good} of {len(audit.heads)} heads; loss {audit.exact_loss:.5f} as it is" +
      (f", {audit.mixed_loss:.5f} with these almost-linear" if audit.mixed else ""))
if audit.mixed and len(sys.argv) > 5:
    audit.mixed.save(sys.argv[5])
