"""What the small runs learn: ten tasks of ten kinds, all made here or found in every Python, each in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.byte_transformer import ByteTransformer
from examples.polygons import polygons
from examples.stdlib_text import Crops, stdlib_text

Losses = Iterator[Tensor]


@dataclass(frozen=True)
class Task:
    """One kind of loss.

    Args:
        name: Name; runs of one task are one group.
        domain: What it stands for.
        make: Takes the seed; returns the model and its losses, one a step, each of a new batch.
        steps: Length of its runs [steps].
        lr: Factor on the learning rates of all optimizers [1].
        recipes: How it is trained.
    """

    name: str
    domain: str
    make: Callable[[int], tuple[nn.Module, Losses]]
    steps: int
    lr: float
    recipes: tuple[str, ...]


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _language(seed: int) -> tuple[nn.Module, Losses]:
    """Bytes of the standard library, next byte by a transformer of 70 000 parameters."""
    model = ByteTransformer(48, 2, 64, 1)
    return model, _next_byte(model, _turned(stdlib_text(), seed), 16)


def _turned(text: Tensor, seed: int) -> Tensor:
    """Begin a text somewhere else, so that its crops are others."""
    return text.roll(seed % len(text))


def _next_byte(model: nn.Module, text: Tensor, batch: int) -> Losses:
    for x, y in Crops(text, batch, 64):
        yield F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def _fine_tuning(seed: int) -> tuple[nn.Module, Losses]:
    """The same model, already trained on one half of the text, goes on with a small part of the other, many times."""
    text = stdlib_text()
    model = ByteTransformer(48, 2, 64, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for loss in islice(_next_byte(model, text[: len(text) // 2], 16), 1200):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, _next_byte(model, _turned(text[-200_000:], seed), 16)


def _pictures(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        seed += 1
        images, labels = polygons(2048, seed).tensors
        yield from zip(images.split(32), labels.split(32), strict=True)


def _convolutions(out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(32 * 9, out),
    )


def _images(seed: int) -> tuple[nn.Module, Losses]:
    """Polygons told by their corners; never the same picture twice."""
    model = _convolutions(4)
    return model, (F.cross_entropy(model(x), y) for x, y in _pictures(seed))


def _contrastive(seed: int) -> tuple[nn.Module, Losses]:
    """Two noisy views of one polygon are to be like each other, and unlike the other 31 (InfoNCE)."""
    model = _convolutions(32)

    def losses() -> Losses:
        for x, _ in _pictures(seed):
            one, two = (F.normalize(model(x + 0.3 * torch.randn_like(x))) for _ in range(2))
            yield F.cross_entropy(one @ two.T / 0.1, torch.arange(len(x)))

    return model, losses()


def _diffusion(seed: int) -> tuple[nn.Module, Losses]:
    """The noise in a picture, at a noise level that changes from picture to picture (mean squared error)."""
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1, stride=2),
        nn.GELU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.GELU(),
        nn.ConvTranspose2d(24, 1, 4, stride=2, padding=1),
    )

    def losses() -> Losses:
        for x, _ in _pictures(seed):
            level, noise = torch.rand(len(x), 1, 1, 1), torch.randn_like(x)
            mixed = (1.0 - level).sqrt() * x + level.sqrt() * noise
            yield F.mse_loss(model(torch.cat((mixed, level.expand_as(x)), dim=1)), noise)

    return model, losses()


def _teacher(seed: int) -> tuple[nn.Module, Losses]:
    """What another network says of random inputs, without noise: the loss has no floor."""
    teacher, model = _mlp(16, 32, 1), _mlp(16, 128, 128, 1)
    for weight in teacher.parameters():
        nn.init.normal_(weight)

    def losses() -> Losses:
        while True:
            x = torch.randn(128, 16)
            with torch.no_grad():
                y = teacher(x)
            yield F.mse_loss(model(x), y)

    return model, losses()


def _table(seed: int) -> tuple[nn.Module, Losses]:
    """A noisy target from 20 columns of a table of 4 000 rows, read again and again until it is learnt by heart."""
    model = _mlp(20, 64, 64, 1)
    rows = torch.randn(4000, 20)
    target = (rows[:, :5].sin().sum(dim=1) + rows[:, 5] * rows[:, 6] + torch.randn(4000))[:, None]

    def losses() -> Losses:
        while True:
            for part in torch.randperm(len(rows)).split(40):
                yield F.mse_loss(model(rows[part]), target[part])

    return model, losses()


def _clicks(seed: int) -> tuple[nn.Module, Losses]:
    """Clicks of 2 000 users on 1 000 things: what can be known of them is little, and soon known."""
    users, things = torch.randn(2000, 4), torch.randn(1000, 4)

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.things, self.head = nn.Embedding(2000, 16), nn.Embedding(1000, 16), _mlp(32, 32, 1)

        def forward(self, user: Tensor, thing: Tensor) -> Tensor:
            return torch.as_tensor(self.head(torch.cat((self.users(user), self.things(thing)), dim=1))[:, 0])

    model = Factors()

    def losses() -> Losses:
        while True:
            user, thing = torch.randint(2000, (256,)), torch.randint(1000, (256,))
            clicked = torch.bernoulli(torch.sigmoid((users[user] * things[thing]).sum(dim=1) - 2.0))
            yield F.binary_cross_entropy_with_logits(model(user, thing), clicked)

    return model, losses()


def _density(seed: int) -> tuple[nn.Module, Losses]:
    """Negative log-density of points on a thin spiral, by a mixture of normals (nats, below zero in the end)."""
    model = _mlp(1, 64, 64, 3 * 8)

    def losses() -> Losses:
        while True:
            turn = 4.0 * torch.rand(128, 1)
            x = turn * torch.cos(math.pi * turn) + 0.05 * torch.randn(128, 1)
            y = turn * torch.sin(math.pi * turn) / 4.0 + 0.02 * torch.randn(128, 1)
            weight, mean, log_sd = model(x).chunk(3, dim=1)
            log_sd = log_sd.clamp(min=-5.0)
            each = -0.5 * ((y - mean) / log_sd.exp()) ** 2 - log_sd - 0.5 * math.log(2.0 * math.pi)
            yield -torch.logsumexp(F.log_softmax(weight, dim=1) + each, dim=1).mean()

    return model, losses()


def _sorting(seed: int) -> tuple[nn.Module, Losses]:
    """Eight digits to be written in order by a transformer: nothing for a while, then all at once."""
    width = 48

    class Sorter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.digit, self.place = nn.Embedding(32, width), nn.Embedding(8, width)
            block = nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
            self.head = nn.Linear(width, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.head(self.blocks(self.digit(x) + self.place.weight)))

    model = Sorter()

    def losses() -> Losses:
        while True:
            x = torch.randint(32, (32, 8))
            yield F.cross_entropy(model(x).flatten(0, 1), x.sort(dim=1).values.flatten())

    return model, losses()


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "language",
            "language model",
            _language,
            4000,
            1.0,
            ("adamw-cosine", "adamw-wsd", "muon-wsd", "adamw-constant", "sgd-steps"),
        ),
        Task(
            "fine-tuning",
            "language model, fine-tuned",
            _fine_tuning,
            3000,
            0.3,
            ("adam-linear", "adamw-cosine", "adam-constant", "sgd-one-cycle"),
        ),
        Task(
            "images",
            "image classification",
            _images,
            8000,
            1.0,
            ("sgd-steps", "adamw-cosine", "sgd-one-cycle", "adagrad-inverse-root", "muon-wsd"),
        ),
        Task(
            "contrastive",
            "contrastive learning",
            _contrastive,
            6000,
            1.0,
            ("sgd-cosine", "adamw-wsd", "adam-restarts", "rmsprop-exponential"),
        ),
        Task(
            "diffusion",
            "denoising",
            _diffusion,
            5000,
            1.0,
            ("adam-constant", "adamw-cosine", "adam-linear", "adam-restarts"),
        ),
        Task(
            "teacher",
            "regression without noise",
            _teacher,
            12000,
            1.0,
            ("adam-linear", "sgd-cosine", "adamw-wsd", "adam-constant", "muon-wsd"),
        ),
        Task(
            "table",
            "regression, many epochs",
            _table,
            12000,
            1.0,
            ("sgd-steps", "adamw-cosine", "rmsprop-exponential", "adam-constant"),
        ),
        Task(
            "clicks",
            "recommendation",
            _clicks,
            10000,
            1.0,
            ("adagrad-inverse-root", "adam-constant", "adamw-cosine", "adam-linear"),
        ),
        Task(
            "density",
            "negative log-density",
            _density,
            10000,
            1.0,
            ("adam-linear", "adamw-cosine", "adam-restarts", "rmsprop-exponential", "adamw-constant"),
        ),
        Task(
            "sorting",
            "sequence to sequence",
            _sorting,
            6000,
            1.0,
            ("adamw-cosine", "adamw-wsd", "adam-linear", "muon-wsd"),
        ),
    )
}
