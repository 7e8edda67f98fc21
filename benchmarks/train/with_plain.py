"""DPO on best-against-rest pairs in plain PyTorch: separate rows, padded, full logits, a frozen copy as reference."""

import copy
import json
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM


def logprobs(model, ids, attended, scored):
    """`[B]`: the sum over the scored tokens of each row."""
    logits = model(input_ids=ids, attention_mask=attended).logits[:, :-1].float()
    token = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (token * scored[:, 1:]).sum(1)


def padded(pairs, device):
    """Token ids, attention and response masks of winners, then losers."""
    rows = [(prompt, sides[place]) for place in (0, 1) for prompt, *sides in pairs]
    ids, attended, scored = torch.zeros(3, len(rows), max(len(p) + len(r) for p, r in rows), dtype=torch.long)
    for number, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[number, :end] = torch.tensor(prompt + response)
        attended[number, :end] = 1
        scored[number, len(prompt) : end] = 1
    return ids.to(device), attended.to(device), scored.to(device)


def main(cell, options):
    """Train, a micro-batch of `options["pairs"]` pairs at a time."""
    device, steps, part = options["device"], cell["cell"]["steps"], options["pairs"]
    groups = json.loads(Path(cell["tokens"]).read_text())["groups"]
    pairs = [(g["prompt"], g["responses"][0], other) for g in groups for other in g["responses"][1:]]
    model = AutoModelForCausalLM.from_pretrained(cell["model"], dtype=torch.float32).to(device)
    reference = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options["lr"], weight_decay=0.0)
    whole, found = len(pairs) // steps, {"losses": [0.0] * steps, "norms": [], "seconds": [], "reference_seconds": 0.0}
    for step in range(steps):
        began, of_step = time.perf_counter(), pairs[step * whole : (step + 1) * whole]
        for start in range(0, whole, part):
            ids = padded(of_step[start : start + part], device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                with torch.no_grad():
                    ref = logprobs(reference, *ids)
                win, lose = (logprobs(model, *ids) - ref).chunk(2)
            loss = -logsigmoid(options["beta"] * (win - lose)).sum() / whole
            loss.backward()
            found["losses"][step] += loss.item()
        found["norms"].append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimiser.param_groups[0]["lr"] = options["lr"] * (1 - step / steps)
        optimiser.step()
        optimiser.zero_grad()
        found["seconds"].append(time.perf_counter() - began)
    return found


if __name__ == "__main__":
    sys.exit(__import__("worker").run(main))
