"""The language model in PyTorch (transformers, peft) and in llama.cpp, as benches/llm.rs has it.

The same weights: SmolLM2-135M from the GGUF file that USER_LLM_BENCH_MODEL names, dequantised to
f32; USER_LLM_BENCH_F32, made by `llm.py --convert`, is that as a GGUF file for llama.cpp.
"""

import os
import sys

N_ITEMS, EVENTS, PROMPT, ANSWER, BATCH = 3706, 50, 32, 8, 8
FUSED, WIDTH, HEADS, D_HEAD = 8, 128, 8, 32  # blocks with cross-attention, and its sizes
THREADS = 2


def text(n, row=0):
    return [1 + (row * 37 + at * 101) % 500 for at in range(n)]


def transformers_model(settings):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    torch.set_num_threads(THREADS)
    if settings.smoke:
        sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=9)
        heads = dict(num_attention_heads=4, num_key_value_heads=2)
        return LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes, **heads)).eval()
    folder, file = os.path.split(os.environ["USER_LLM_BENCH_MODEL"])
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    return model.eval()


def prefill(n):
    def measure(settings):
        import torch

        model = transformers_model(settings)
        tokens = torch.tensor([text(settings.size(n, 8))])
        with torch.inference_mode():
            return settings.time(10, lambda: model(tokens, logits_to_keep=1).logits.argmax().item())

    return measure


def decode(rows):
    def measure(settings):
        import torch

        model = transformers_model(settings)
        with torch.inference_mode():
            prompts = torch.tensor([text(PROMPT, row) for row in range(rows)])
            state = model(prompts, use_cache=True, logits_to_keep=1)

            def write():
                nonlocal state
                last = state.logits[:, -1:].argmax(-1)
                past = state.past_key_values
                state = model(last, past_key_values=past, use_cache=True)
                state.logits[:, -1].argmax(-1).tolist()

            return settings.time(60, write)

    return measure


def user_llm(settings, lora):
    """Cross-attention from the upper blocks to what an encoder and a Perceiver make of a history."""
    import torch
    from torch import nn

    import encoder as encoders

    class Perceiver(nn.Module):
        def __init__(self, layers=2, latents=16, heads=4):
            super().__init__()
            self.latents = nn.Parameter(torch.randn(latents, WIDTH))
            attention = lambda: nn.MultiheadAttention(WIDTH, heads, batch_first=True)
            forward = lambda: nn.Sequential(
                nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
            )
            norm = lambda: nn.LayerNorm(WIDTH)
            parts = lambda: nn.ModuleList([norm(), attention(), norm(), forward()])
            self.layers = nn.ModuleList(parts() for _ in range(layers))
            self.before, self.after = norm(), norm()

        def forward(self, events):
            events = self.before(events)
            z = self.latents.expand(len(events), -1, -1)
            for norm_1, attention, norm_2, feed_forward in self.layers:
                z = z + attention(norm_1(z), events, events, need_weights=False)[0]
                z = z + feed_forward(norm_2(z))
            return self.after(z)

    class CrossAttention(nn.Module):
        def __init__(self, d_model):
            super().__init__()
            inner = HEADS * D_HEAD
            self.norm = nn.RMSNorm(d_model)
            self.query, self.output = nn.Linear(d_model, inner), nn.Linear(inner, d_model)
            self.key, self.value = nn.Linear(WIDTH, inner), nn.Linear(WIDTH, inner)

        def forward(self, hidden, user):
            split = lambda x: x.unflatten(-1, (HEADS, D_HEAD)).transpose(1, 2)
            q, k, v = split(self.query(self.norm(hidden))), split(self.key(user)), split(self.value(user))
            read = nn.functional.scaled_dot_product_attention(q, k, v)
            read = self.output(read.transpose(1, 2).flatten(2))
            scale = hidden.detach().pow(2).mean(-1, keepdim=True).sqrt()
            return hidden + read * scale

    class UserLlm(nn.Module):
        def __init__(self, strategy):
            super().__init__()
            self.encoder = encoders.UserEncoder(N_ITEMS, EVENTS)
            self.perceiver, self.projector = Perceiver(), nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
            )
            self.llm = transformers_model(settings).requires_grad_(False)
            d_model = self.llm.config.hidden_size
            if strategy == "lora":
                from peft import LoraConfig, get_peft_model

                names = ["q_proj", "k_proj", "v_proj", "o_proj"]
                config = LoraConfig(r=8, lora_alpha=16, target_modules=names)
                self.llm = get_peft_model(self.llm, config).base_model.model
            if strategy == "proj":
                self.encoder.requires_grad_(False)
            self.fusion = nn.ModuleList(CrossAttention(d_model) for _ in range(FUSED))

        def forward(self, items, tokens, keep):
            """Logits of the last `keep` tokens."""
            events = self.encoder(items)[:, 1:]
            user = self.projector(self.perceiver(events))
            llm = self.llm.model
            hidden = llm.embed_tokens(tokens)
            places = torch.arange(tokens.shape[1])[None]
            turned = llm.rotary_emb(hidden, places)
            first = len(llm.layers) - FUSED
            for at, layer in enumerate(llm.layers):
                normed = layer.input_layernorm(hidden)
                hidden = hidden + layer.self_attn(normed, position_embeddings=turned, attention_mask=None)[0]
                if at >= first:
                    hidden = self.fusion[at - first](hidden, user)
                hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            return self.llm.lm_head(llm.norm(hidden[:, -keep:]))

    return UserLlm(lora)


def tune(strategy):
    def measure(settings):
        import torch

        model = user_llm(settings, strategy).train()
        walks = [[(2 + (u * 797 + at * 31) % N_ITEMS) for at in range(EVENTS)] for u in range(BATCH)]
        items = torch.tensor(walks)
        answers = torch.tensor([text(ANSWER, row + 50) for row in range(BATCH)])
        prompts = torch.tensor([text(PROMPT, row) for row in range(BATCH)])
        tokens = torch.cat([prompts, answers[:, :-1]], 1)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

        def step():
            optimizer.zero_grad(set_to_none=True)
            logits = model(items, tokens, ANSWER)
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten()).backward()
            optimizer.step()

        return settings.time(10, step)

    return measure


def llama(what, n):
    def measure(settings):
        if settings.smoke:  # it reads no model but from a file
            return [0.0]
        from llama_cpp import Llama

        path = os.environ["USER_LLM_BENCH_F32"]
        model = Llama(path, n_ctx=1024, n_batch=512, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)

        def read():
            model.reset()
            model.eval(text(n))

        if what == "prefill":
            return settings.time(10, read)
        read()
        token = 7

        def write():
            nonlocal token
            model.eval([token])
            token = model.sample(temp=0.0)

        return settings.time(60, write)

    return measure


def convert(source, target):
    """The same weights as a GGUF file in f32."""
    import gguf
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    own = {"general.architecture", "general.file_type", "general.quantization_version"}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in own:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype("float32")
        writer.add_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


MEASURES = {
    "prefill-32": prefill(32),
    "prefill-512": prefill(512),
    "decode": decode(1),
    "decode-batch-8": decode(BATCH),
    "llama.cpp-prefill-32": llama("prefill", 32),
    "llama.cpp-prefill-512": llama("prefill", 512),
    "llama.cpp-decode": llama("decode", PROMPT),
    "tune-enc": tune("enc"),
    "tune-proj": tune("proj"),
    "tune-lora": tune("lora"),
}

if __name__ == "__main__":
    if sys.argv[1] == "--convert":
        convert(*sys.argv[2:])
    elif sys.argv[1] in MEASURES:  # ours alone has others
        import timing

        timing.main(MEASURES)
