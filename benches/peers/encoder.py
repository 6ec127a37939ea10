"""The user encoder in eager PyTorch, as benches/encoder.rs has it in burn.

The same parameters (item table 128 wide, projection in, six pre-norm causal layers with 8 heads and
a feed-forward network of 512, projection out, logits tied to the table), the same batches and
losses. Of what PyTorch offers, the fastest on these shapes: see docs/benchmarks.md.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from timing import main

BATCH, LENGTH, WIDTH, HEADS, LAYERS = 64, 50, 128, 8, 6
TILE = 200  # positions whose logits are in memory at once, where all do not fit


class Block(nn.Module):
    """A pre-norm layer; dropout on what attention and feed-forward add."""

    def __init__(self, dropout):
        super().__init__()
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = dropout

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def forward(self, x):
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        context = context.transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.drop(self.output(context))
        return x + self.drop(self.outer(F.relu(self.inner(self.norm_feed_forward(x)))))


class UserEncoder(nn.Module):
    def __init__(self, n_items, length, dropout=0.0, sparse=False):
        super().__init__()
        self.table = nn.Embedding(n_items + 2, WIDTH, sparse=sparse)
        nn.init.normal_(self.table.weight, std=0.02)
        self.projection, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.bos = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, length + 1, WIDTH))
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = dropout

    def forward(self, items):
        """Hidden states of BOS and every item, ready for the table: [batch, 1 + length, width]."""
        bos = self.bos.expand(len(items), 1, WIDTH)
        x = torch.cat([bos, self.projection(self.table(items))], 1)
        x = x + self.positions[:, : x.shape[1]]
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def histories(n_users, length, n_items):
    """The item ids that benches/encoder.rs makes: each history walks the catalogue in strides."""
    users, events = torch.arange(n_users).unsqueeze(1), torch.arange(length)
    return (users * 7919 + events * (1 + users % 97)) % n_items + 2


def train(n_items, dropout=0.0):
    """Next-item cross-entropy at all positions, AdamW: seconds a step."""

    def measure(settings):
        n = settings.size(n_items, 300)
        model = UserEncoder(n, LENGTH, dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        items = histories(settings.size(BATCH, 2), LENGTH, n)

        def step():
            optimizer.zero_grad(set_to_none=True)
            hidden = model.head(model(items[:, :-1])).flatten(0, 1)
            loss = F.cross_entropy(hidden @ model.table.weight.T, items.flatten())
            loss.item()
            loss.backward()
            optimizer.step()

        return settings.time(10, step)

    return measure


def train_tiled(settings):
    """The same with 500,000 items: logits in tiles of positions, each with its gradient at once."""
    n = settings.size(500_000, 300)
    model = UserEncoder(n, LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    items = histories(settings.size(BATCH, 2), LENGTH, n)

    def step():
        optimizer.zero_grad(set_to_none=True)
        hidden = model.head(model(items[:, :-1])).flatten(0, 1)
        leaf = hidden.detach().requires_grad_()
        for tile, targets in zip(leaf.split(TILE), items.flatten().split(TILE)):
            logits = tile @ model.table.weight.T
            loss = F.cross_entropy(logits, targets, reduction="sum") / len(hidden)
            loss.item()
            loss.backward()
        hidden.backward(leaf.grad)
        optimizer.step()

    return settings.time(4, step)


def train_sampled(settings):
    """The same against 4,096 items drawn for all positions; gradients and AdamW of their rows alone."""
    n = settings.size(500_000, 300)
    model = UserEncoder(n, LENGTH, sparse=True)
    rest = [p for name, p in model.named_parameters() if name != "table.weight"]
    optimizers = [
        torch.optim.AdamW(rest, lr=1e-3, fused=True),
        torch.optim.SparseAdam([model.table.weight], lr=1e-3),
    ]
    items = histories(settings.size(BATCH, 2), LENGTH, n)
    targets = items.flatten()

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        hidden = model.head(model(items[:, :-1])).flatten(0, 1)
        negatives = torch.randint(2, n + 2, (4096,))
        right = (hidden * model.table(targets)).sum(1, keepdim=True)
        wrong = hidden @ model.table(negatives).T
        # Drawn evenly, so the logarithm of how often is the same for all; a hit is no negative.
        wrong = wrong.masked_fill(negatives == targets.unsqueeze(1), -torch.inf)
        loss = F.cross_entropy(torch.cat([right, wrong], 1), torch.zeros_like(targets))
        loss.item()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return settings.time(10, step)


@torch.inference_mode()
def evaluate(settings):
    """The next item's rank among all that a user has not seen, and the ten best of them."""
    n_users, length, batch = settings.size(6040, 8), 200, 64
    model = UserEncoder(3706, length).eval()
    items = histories(n_users, length + 1, 3706)

    def rank(items):
        history, target = items[:, :-1], items[:, -1:]
        scores = model.head(model(history)[:, -1]) @ model.table.weight.T
        of_target = scores.gather(1, target)
        scores[:, :2] = -torch.inf  # padding and unknown
        scores.scatter_(1, history, -torch.inf).scatter_(1, target, of_target)
        return (scores > of_target).sum(1), scores.topk(10).indices

    rank(items[:batch])
    start = time.perf_counter()
    ranked = [rank(part) for part in items.split(batch)]
    assert sum(len(ranks) for ranks, _ in ranked) == n_users
    return [time.perf_counter() - start]


@torch.inference_mode()
def event(settings):
    """One new event at length 200: the whole history is read again."""
    model = UserEncoder(3706, 200).eval()
    items = histories(1, 200, 3706)
    return settings.time(50, lambda: model(items)[:, -1].sum().item())


if __name__ == "__main__":
    torch.manual_seed(1)
    main(
        {
            "train-3706": train(3706),
            "train-3706-dropout": train(3706, dropout=0.1),
            "train-27280": train(27280),
            "train-500000": train_tiled,
            "train-500000-sampled": train_sampled,
            "evaluate-6040": evaluate,
            "event-update": event,
            "event-afresh": event,
        }
    )
