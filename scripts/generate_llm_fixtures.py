#!/usr/bin/env python3
"""Makes the tiny models in llm/tests/fixtures/, with what PyTorch says of them.

    python3 -m venv venv && . venv/bin/activate
    pip install torch==2.9.0 transformers==5.23.0 peft==0.21.2 gguf==0.19.0 numpy
    python scripts/generate_llm_fixtures.py

Run from the root of the repository. Everything is seeded: another run with the same versions gives
the same bytes. What it makes:

- tiny-llama/: Llama layout, float32, one file, a head of its own, head width that is not
  width / heads.
- tiny-llama3/: Llama 3.1's rotary scaling.
- tiny-qwen2/: Qwen2 layout, bfloat16, two files with an index, tied head, biases on q, k, v.
- tiny-mistral/: Mistral layout, a window that no text is longer than.
- tiny-qwen3/: Qwen3 layout, norms of queries and keys, head width that is not width / heads.
- tiny-smollm3/: SmolLM3 layout, four layers, the last without positions.
- in all of them, expected.json: tokens, chat text, logits and greedy tokens by transformers (float32).
- tiny-llama-lora/: adapters for tiny-llama by PEFT itself, and the logits with them.
- gguf_blocks.json: for each quantisation that the crate names, a tensor of two blocks quantised and
  dequantised by ggml's own Python package, bytes and values.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from gguf import quants
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers import Qwen3Config, Qwen3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

FIXTURES = Path("llm/tests/fixtures")
TEXT = "The long voyage of 1995, and home again"
CORPUS = [
    "the voyage of the long winter and the way home again in 1995",
    "a long way from home, and then the winter voyage of 2001 again",
    "homes and ways, voyages and winters: the long and the short of it",
]
LETTERS = sorted(set("".join(CORPUS) + TEXT) - {" "}) + ["Ġ", "Ċ", "[", "]"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if message['role'] not in ['system', 'user', 'assistant'] %}\n"
    "        {{ raise_exception('unknown role') }}\n"
    "    {% endif %}\n"
    "{{ '[' + message['role'] + '] ' + message['content'].strip() + eos_token }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "  the long way "},
    {"role": "user", "content": "home again"},
]


def make_tokenizer(adds_bos: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=96, special_tokens=["<s>", "</s>"], initial_alphabet=LETTERS, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that every part of the model matters for the logits."""
    generator = torch.Generator().manual_seed(20240220)
    for name, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):  # q_norm and k_norm, too
            values = 1 + 0.2 * values
        else:
            values = values / math.sqrt(parameter.shape[-1])
        parameter.data = values.to(parameter.dtype)


def rounded(values: torch.Tensor) -> list:
    return [[round(value, 6) for value in row] for row in values.tolist()]


def write_model(name: str, model, tokenizer, **how) -> None:
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **how)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)

    # Logits of the weights as saved, in float32.
    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        greedy = model.generate(
            torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=1
        )[0, len(ids) :]
    expected = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "text": TEXT,
        "ids": ids,
        "messages": MESSAGES,
        "chat": tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True),
        "greedy": greedy.tolist(),
        "logits": rounded(logits),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in expected.items()]
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_models() -> None:
    sizes = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, vocab_size=96)

    llama = LlamaForCausalLM(
        LlamaConfig(
            **sizes, num_attention_heads=6, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5,
            rope_theta=500.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
        )
    )
    randomise(llama)
    write_model("tiny-llama", llama, make_tokenizer(adds_bos=True))

    llama3 = LlamaForCausalLM(
        LlamaConfig(
            **sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5,
            max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
            # Of the four pairs, one turns often enough to be mixed, the others are slowed down.
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            },
        )
    )
    randomise(llama3)
    write_model("tiny-llama3", llama3.to(torch.bfloat16), make_tokenizer(adds_bos=True))

    qwen2 = Qwen2ForCausalLM(
        Qwen2Config(
            **sizes, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
            rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
        )
    )
    randomise(qwen2)
    write_model("tiny-qwen2", qwen2.to(torch.bfloat16), make_tokenizer(adds_bos=False), max_shard_size="12KB")

    mistral = MistralForCausalLM(
        MistralConfig(
            **sizes, num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-5, rope_theta=700.0,
            max_position_embeddings=128, sliding_window=128, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=1,
        )
    )
    randomise(mistral)
    write_model("tiny-mistral", mistral.to(torch.bfloat16), make_tokenizer(adds_bos=True))

    qwen3 = Qwen3ForCausalLM(
        Qwen3Config(
            **sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-6,
            rope_theta=10000.0, max_position_embeddings=128, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=1,
        )
    )
    randomise(qwen3)
    write_model("tiny-qwen3", qwen3.to(torch.bfloat16), make_tokenizer(adds_bos=False))

    smollm3 = SmolLM3ForCausalLM(
        SmolLM3Config(
            **{**sizes, "num_hidden_layers": 4}, num_attention_heads=4, num_key_value_heads=2,
            rms_norm_eps=1e-6, rope_theta=5000.0, max_position_embeddings=128, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )
    randomise(smollm3)
    write_model("tiny-smollm3", smollm3.to(torch.bfloat16), make_tokenizer(adds_bos=False))


def write_adapter() -> None:
    base = FIXTURES / "tiny-llama"
    folder = FIXTURES / "tiny-llama-lora"
    shutil.rmtree(folder, ignore_errors=True)
    ids = json.loads((base / "expected.json").read_text())["ids"]
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(20240220)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:  # B would begin at zero
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    (folder / "adapter_model.safetensors").chmod(0o644)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["target_modules"].sort()  # a set, in another order at every run
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    expected = {"ids": ids, "logits": rounded(logits)}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def write_blocks() -> None:
    """Two blocks of each type: gguf quantises the simple ones; for K types, which its Python part
    only reads, random bytes with small scales do, since any bytes are a valid block."""
    generator = np.random.default_rng(20240220)
    blocks = {}
    for kind in [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q4_K, Q.Q6_K]:
        n = 512 if kind in (Q.Q4_K, Q.Q6_K) else 64
        if kind in (Q.Q4_K, Q.Q6_K):
            size = 144 if kind == Q.Q4_K else 210
            data = generator.integers(0, 256, (2, size), dtype=np.uint8)
            scales = generator.normal(0, 0.01, (2, 2)).astype("<f2").view(np.uint8)
            if kind == Q.Q4_K:  # d and dmin come first
                data[:, 0:4] = scales
            else:  # d comes last
                data[:, 208:210] = scales[:, 0:2]
        else:
            values = generator.normal(0, 1, n).astype(np.float32)
            data = quants.quantize(values, kind)
        bytes_ = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        raw = bytes_ if kind not in (Q.F32, Q.F16) else np.ascontiguousarray(data)
        values = quants.dequantize(raw.reshape(1, -1), kind).reshape(-1).astype(np.float32)
        assert values.size == n, (kind, values.size)
        blocks[kind.name] = {
            "type": int(kind),
            "bytes": bytes_.tobytes().hex(),
            # Every seventh value and the last: enough to catch a swapped nibble or scale.
            "values": {str(i): float(values[i]) for i in [*range(0, n, 7), n - 1]},
        }
    lines = [f"{json.dumps(name)}: {json.dumps(block)}" for name, block in blocks.items()]
    (FIXTURES / "gguf_blocks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write_models()
    write_adapter()
    write_blocks()
