"""Where will the losses of an image classifier end, in training and on images it has not seen?

    python examples/01_vision_classifier.py

trains a small convolutional network to count the corners of noisy polygons. `ScalingLawMonitor` finds the logged
`val_loss` by itself and forecasts it beside the training loss. Half a minute on one CPU core.
"""

from __future__ import annotations

import sys

import pytorch_lightning as pl
import torch
from console import keep_quiet
from polygons import CORNERS, polygons
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_scaling import ScalingLawMonitor


class Classifier(pl.LightningModule):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, len(CORNERS)),
        )  # fmt: skip
        self.net(torch.zeros(1, 1, 24, 24))  # the lazy layer finds its size

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        image, corners = batch
        return F.cross_entropy(self.net(image), corners)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        image, corners = batch
        scores = self.net(image)
        self.log("val_loss", F.cross_entropy(scores, corners))
        self.log("accuracy", (scores.argmax(dim=1) == corners).float().mean())

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main(steps: int) -> None:
    keep_quiet()
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    seen = DataLoader(polygons(32 * steps // 4, seed=1), batch_size=32, shuffle=True)  # four epochs
    unseen = DataLoader(polygons(1_000, seed=2), batch_size=1_000)

    monitor = ScalingLawMonitor()
    trainer = pl.Trainer(
        max_steps=steps, callbacks=[monitor], val_check_interval=steps // 25, check_val_every_n_epoch=None,
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Classifier(steps), seen, unseen)

    ended = trainer.callback_metrics
    print(f"\nOn images it has not seen the loss ended at {ended['val_loss']:.3f}, {ended['accuracy']:.1%} were right.")


if __name__ == "__main__":
    main(steps=200 if "--quick" in sys.argv else 2_000)
