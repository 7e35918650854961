"""The training loop on TRL: trainer, config, batches, checkpoints, export."""
