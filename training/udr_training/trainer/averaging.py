"""A trainer whose processes share every batch: it averages their gradients."""

from functools import partial
from typing import Any

import torch
from transformers import Trainer

from udr_training.losses import average_gradients, num_processes


class SharedTraining(Trainer):
    """A trainer that averages gradients over the processes itself.

    Torch's DDP would do so at its own single forward pass, but a loss here has several: one for each length of text or
    mini-batch, and one for each tower.
    """

    def create_accelerator_and_postprocess(self) -> None:
        """Keep Accelerate from wrapping the model in DDP."""
        # Else one process would use all GPUs that it sees (nn.DataParallel), with a batch for each of them.
        self.args._n_gpu = min(1, self.args.n_gpu)
        super().create_accelerator_and_postprocess()
        if num_processes() > 1:
            prepare = self.accelerator.prepare_model
            self.accelerator.prepare_model = partial(prepare, evaluation_mode=True)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute the gradients, and average them."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if num_processes() > 1:
            average_gradients(model.parameters())
        return loss
