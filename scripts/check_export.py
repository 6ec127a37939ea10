#!/usr/bin/env python3
"""Asks transformers whether an export is the model that was tuned.

    user-llm export --run runs/mine --out export
    pip install torch==2.9.0 transformers==5.23.0 peft==0.21.2
    python scripts/check_export.py export [--base DIR]

Loads export/language-model with transformers and compares tokens and logits with those that
user-llm kept in export/check.safetensors before anything was merged. With --base, a Hugging Face
folder of the language model before tuning, it also puts export/adapter on it with PEFT and compares
again. Both compute in float64: the logits of two float32 programs differ by the rounding of both,
which with logits of 30 is 1e-4 already. Ends with 1 if one differs by more than the tolerance.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("export", type=Path)
    arguments.add_argument("--base", type=Path, help="the language model before tuning, for PEFT")
    arguments.add_argument("--tolerance", type=float, default=1e-4)
    asked = arguments.parse_args()

    folder = asked.export / "language-model"
    with safe_open(asked.export / "check.safetensors", "pt") as check:
        tokens, expected = check.get_tensor("tokens"), check.get_tensor("logits")
        text = check.metadata()["text"]
    found = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    if found != tokens.tolist():
        sys.exit(f"the tokenizer gives {found} for {text!r}, expected {tokens.tolist()}")

    def compare(name: str, model: torch.nn.Module) -> None:
        with torch.no_grad():
            logits = model.eval()(tokens[None]).logits[0]
        distance = (logits - expected).abs().max().item()
        print(f"{name}: {len(found)} tokens, logits differ by at most {distance:.2e}")
        if not distance <= asked.tolerance:
            sys.exit(f"more than {asked.tolerance}")

    compare("merged", AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64))
    if asked.base:
        from peft import PeftModel

        base = AutoModelForCausalLM.from_pretrained(asked.base, dtype=torch.float64)
        adapted = PeftModel.from_pretrained(base, asked.export / "adapter", autocast_adapter_dtype=False)
        compare("adapter", adapted.double())


if __name__ == "__main__":
    main()
