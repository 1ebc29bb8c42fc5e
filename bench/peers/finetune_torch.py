# SPDX-License-Identifier: Apache-2.0
"""finetune_torch.py MODEL TEXT TOKENS STEPS: steps of transformers with PEFT over the beginning of a text: adapters of rank
16 on all maps, AdamW, scaled-dot-product attention and checkpoints of each layer, f32. Prints the seconds of the last
step and the process's peak as JSON."""
import json
import resource
import sys
import time

from peer import torch
import peft
import transformers


def main(folder, text, tokens, steps):
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with open(text, encoding="utf-8") as file:
        ids = torch.tensor(tokenizer(file.read(tokens * 8))["input_ids"][:tokens])[None]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear",
                                                       task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
