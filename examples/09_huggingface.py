"""Where will a run of the Hugging Face Trainer end, and when is it known that it misses its target?

    pip install 'lightning-scaling[hf]'
    python examples/09_huggingface.py

trains a tiny GPT-2, with random weights and without a download, on the bytes of Python's standard library, and watches
what the Trainer logs. Half a minute on one CPU core.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from stdlib_text import GOLDEN, stdlib_text
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments

from lightning_scaling import TargetUnreachable
from lightning_scaling.huggingface import ScalingLawCallback

CONTEXT = 32


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Windows of a text, spread evenly over it; of bytes, which are tokens already."""

    def __init__(self, text: torch.Tensor, n: int) -> None:
        self.text, self.n = text, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        start = int(GOLDEN * i % 1.0 * (len(self.text) - CONTEXT))
        window = self.text[start : start + CONTEXT].long()
        return {"input_ids": window, "labels": window}


def main(steps: int, target: float) -> None:
    torch.set_num_threads(1)
    config = GPT2Config(vocab_size=256, n_positions=CONTEXT, n_embd=48, n_layer=1, n_head=4, bos_token_id=0,
                        eos_token_id=0, loss_type="ForCausalLM")  # fmt: skip
    monitor = ScalingLawCallback(stop=TargetUnreachable(loss=target))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            logging_steps=max(steps // 300, 1),  # what is logged is what can be forecast from
            per_device_train_batch_size=16,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            warmup_steps=steps // 20,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            log_level="error",
        )
        data = Windows(stdlib_text(), n=16 * steps)
        trainer = Trainer(GPT2LMHeadModel(config), arguments, train_dataset=data, callbacks=[monitor])
        trainer.remove_callback(PrinterCallback)  # a line of numbers per log
        trainer.train()
    print(f"\nThe last word: {monitor.advice}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps of the run (default: 1500)")
    parser.add_argument("--target", type=float, default=1.9, help="a loss worth ending at (default: 1.9)")
    main(**vars(parser.parse_args()))
