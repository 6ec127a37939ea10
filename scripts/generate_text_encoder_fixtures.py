#!/usr/bin/env python3
"""Makes text-encoder/tests/fixtures/, with what sentence-transformers says of it.

    python3 -m venv venv && . venv/bin/activate
    pip install torch==2.9.0 transformers==5.23.0 sentence-transformers numpy
    python scripts/generate_text_encoder_fixtures.py [all-MiniLM-L6-v2's folder]

Run from the root of the repository. Everything is seeded. What it makes:

- tiny-bert/: a BERT of random weights, wide in its norms and biases so that none of them can be
  forgotten, with a tokenizer of a few words; expected.json has texts and their vectors.
- all-minilm-l6-v2.json, where its folder is given: texts and the first 16 of their vectors' 384.
"""

import json
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

FIXTURES = Path("text-encoder/tests/fixtures")
WORDS = "a the of and voyage winter home long story toy city night again 19 95 ##s ##ing ##er ( ) , ! e l".split()
TEXTS = [
    "The Long Voyage (1995)",
    "Toy story, again!",
    "",
    "  Wintering   in the CITY of Élan",
    "night " * 40 + "home",
    "the the the the the the the the the the the the the the",
    "a",
]
REAL_TEXTS = [
    "Toy Story (1995)",
    "A film about toys that come alive when nobody looks.",
    "",
    "Élégance, naïveté — and 日本 films? £5!",
    "I bought this guitar stand twice: it holds, it folds, and it does not scratch. " * 30,
]


def tiny() -> Path:
    folder = FIXTURES / "tiny-bert"
    vocab = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + WORDS)}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    # What some training run left behind, and nobody should obey.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=24, initializer_range=0.5,
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    transformer = models.Transformer(str(folder), max_seq_length=24)
    pooling = models.Pooling(transformer.get_embedding_dimension())
    encoder = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
    write(folder / "expected.json", encoder, TEXTS, 24)
    # Written last: the one that the crate reads.
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").unlink()
    return folder


def write(path: Path, encoder: SentenceTransformer, texts: list[str], n: int) -> None:
    vectors = encoder.encode(texts, batch_size=1, convert_to_numpy=True)
    vectors = [[round(float(x), 7) for x in vector[:n]] for vector in vectors]
    path.write_text(json.dumps({"texts": texts, "vectors": vectors}, ensure_ascii=False, indent=1) + "\n")


tiny()
if len(sys.argv) > 1:
    transformer = models.Transformer(sys.argv[1], max_seq_length=256)
    pooling = models.Pooling(transformer.get_embedding_dimension())
    real = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
    write(FIXTURES / "all-minilm-l6-v2.json", real, REAL_TEXTS, 16)
