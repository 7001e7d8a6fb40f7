"""The PyTorch side of `probe_throughput.py`: one process that trains what it is told, and says how long it took.

Needs torch and numpy in an environment of their own. Reads one JSON request per line from standard input and answers
with one JSON line: {"seconds": s, "seed_steps": n}. A request names the workload, how seeds are computed ("loop": one
after the other, by autograd and `torch.optim.AdamW`; "vmap": many at once by `torch.func`), the numbers of threads,
seeds and steps, and `fused`, `cached`, `bfloat16`. Sizes are those of `_workloads.py`, weights and data are random.
"""

import itertools
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from _workloads import BATCH, DECODER, HEAD, LENGTH, LORA_RANK, MINILM, MLP, RATE
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap


class MLPNetwork(nn.Sequential):
    """The perceptron of the built-in digits."""

    def __init__(self):
        sizes = [MLP.inputs, *MLP.widths]
        layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU())]
        super().__init__(*layers, nn.Linear(sizes[-1], MLP.outputs))


class HeadNetwork(nn.Module):
    """A classifier of pooled features."""

    def __init__(self):
        super().__init__()
        self.dropout, self.out = nn.Dropout(HEAD.dropout), nn.Linear(HEAD.inputs, HEAD.outputs)

    def forward(self, x):
        return self.out(self.dropout(x))


class LoRALinear(nn.Linear):
    """A frozen linear map with an update of low rank."""

    def __init__(self, width):
        super().__init__(width, width)
        self.a = nn.Parameter(torch.empty(LORA_RANK, width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))
        self.b = nn.Parameter(torch.zeros(width, LORA_RANK))

    def forward(self, x):
        return super().forward(x) + 2.0 * F.linear(F.linear(x, self.a), self.b)


class Layer(nn.Module):
    """One layer of a transformer, before or after whose parts is normalised."""

    def __init__(self, shape, updated, causal):
        super().__init__()
        width, linear = shape.width, LoRALinear if updated else lambda width: nn.Linear(width, width)
        self.query, self.value = linear(width), linear(width)
        self.key, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, shape.hidden), nn.Linear(shape.hidden, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.dropout, self.rate = nn.Dropout(shape.dropout), shape.dropout
        self.heads, self.causal = shape.heads, causal

    def attention(self, x):
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in (self.query, self.key, self.value)
        )
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=self.causal)
        return self.dropout(self.output(mixed.transpose(-3, -2).flatten(-2)))

    def perceptron(self, x):
        return self.dropout(self.down(F.gelu(self.up(x))))

    def forward(self, x):
        if self.causal:
            x = x + self.attention(self.norms[0](x))
            return x + self.perceptron(self.norms[1](x))
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.perceptron(x))


class DecoderNetwork(nn.Module):
    """The suite's kind of decoder."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(DECODER.outputs, DECODER.width)
        self.position = nn.Parameter(0.02 * torch.randn(DECODER.context, DECODER.width))
        self.layers = nn.ModuleList([Layer(DECODER, False, True) for _ in range(DECODER.blocks)])
        self.norm, self.head = nn.LayerNorm(DECODER.width), nn.Linear(DECODER.width, DECODER.outputs)

    def forward(self, x):
        x = self.token(x) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class EncoderNetwork(nn.Module):
    """MiniLM with updates of low rank in its last layers; reads tokens, or what was kept below those layers."""

    def __init__(self, updated, cached):
        super().__init__()
        first, self.cached = MINILM.blocks - updated, cached
        self.token, self.position = nn.Embedding(MINILM.vocabulary, MINILM.width), nn.Embedding(LENGTH, MINILM.width)
        self.norm = nn.LayerNorm(MINILM.width)
        below = [] if cached else [Layer(MINILM, False, False) for _ in range(first)]
        self.below = nn.ModuleList(below)
        self.above = nn.ModuleList([Layer(MINILM, True, False) for _ in range(updated)])
        self.dropout, self.out = nn.Dropout(MINILM.dropout), nn.Linear(MINILM.width, 2)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.endswith((".a", ".b")) or name.startswith("out."))

    def forward(self, x):
        if not self.cached:
            x = self.dropout(self.norm(self.token(x) + self.position.weight))
            for layer in self.below:
                x = layer(x)
        for layer in self.above:
            x = layer(x)
        return self.out(self.dropout(x.mean(-2)))


def network_of(request):
    """A fresh network of the workload."""
    name = request["workload"]
    made = {"mlp": MLPNetwork, "head": HeadNetwork, "decoder": DecoderNetwork}.get(name)
    updated = {"lora_last_two": 2, "lora_all": MINILM.blocks}.get(name)
    return (made() if made else EncoderNetwork(updated, request["cached"])).train()


def data_of(request):
    """Training examples: what is read, and the answers."""
    name = request["workload"]
    n = BATCH[name] * 16
    if name in ("mlp", "head"):
        shape = MLP if name == "mlp" else HEAD
        return torch.randn(n, shape.inputs), torch.randint(shape.outputs, (n,))
    if name == "decoder":
        tokens = torch.randint(DECODER.outputs, (n, DECODER.context + 1))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    if request["cached"]:
        return torch.randn(n, LENGTH, MINILM.width), torch.randint(2, (n,))
    return torch.randint(MINILM.vocabulary, (n, LENGTH)), torch.randint(2, (n,))


def loss_of(logits, y):
    return F.cross_entropy(logits.flatten(0, -2), y.flatten())


def one_by_one(request):
    """Seconds of training the seeds one after the other."""
    x, y = data_of(request)
    size, steps = BATCH[request["workload"]], request["steps"]
    seconds = 0.0
    for _ in range(request["seeds"]):
        network = network_of(request)
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.0, fused=request["fused"] or None)
        start = time.perf_counter()
        for step in range(steps):
            place = step % (len(y) // size)
            if place == 0:
                order = torch.randperm(len(y))
            rows = order[place * size : (place + 1) * size]
            with torch.autocast("cpu", torch.bfloat16, enabled=request["bfloat16"]):
                loss = loss_of(network(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - start
    return seconds


def at_once(request):
    """Seconds of training the seeds together: `vmap` over parameters, AdamW written out in place."""
    x, y = data_of(request)
    size, steps, seeds = BATCH[request["workload"]], request["steps"], request["seeds"]
    networks = [network_of(request) for _ in range(seeds)]
    mine = {name for name, p in networks[0].named_parameters() if p.requires_grad}
    stacked, _ = stack_module_state(networks)
    trained = {name: p.detach().clone() for name, p in stacked.items() if name in mine}
    frozen = {name: p.detach() for name, p in networks[0].named_parameters() if name not in mine}
    network = networks[0]
    del networks, stacked

    def loss(trained, x, y):
        return loss_of(functional_call(network, {**frozen, **trained}, (x,)), y)

    slope = vmap(grad(loss), randomness="different")
    first = {name: torch.zeros_like(p) for name, p in trained.items()}
    second = {name: torch.zeros_like(p) for name, p in trained.items()}
    start = time.perf_counter()
    for step in range(steps):
        place = step % (len(y) // size)
        if place == 0:
            order = torch.rand(seeds, len(y)).argsort(1)
        rows = order[:, place * size : (place + 1) * size]
        gradient = slope(trained, x[rows], y[rows])
        for name, g in gradient.items():
            first[name].lerp_(g, 0.1)
            second[name].mul_(0.999).addcmul_(g, g, value=0.001)
            scale = (second[name] / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
            trained[name].addcdiv_(first[name], scale, value=-RATE / (1 - 0.9 ** (step + 1)))
    return time.perf_counter() - start


def main():
    for line in sys.stdin:
        request = json.loads(line)
        torch.set_num_threads(request["threads"])
        seconds = (at_once if request["how"] == "vmap" else one_by_one)(request)
        print(json.dumps({"seconds": seconds, "seed_steps": request["seeds"] * request["steps"]}), flush=True)


if __name__ == "__main__":
    main()
