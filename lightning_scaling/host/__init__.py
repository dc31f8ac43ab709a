"""What a Lightning Trainer can tell about the run: its planned end, its learning rates, its size, its batches.

Every function here reads public attributes of a Trainer and its module and changes neither. Nothing in this folder
imports Lightning, so the same code serves ``lightning.pytorch`` and ``pytorch_lightning``.
"""
