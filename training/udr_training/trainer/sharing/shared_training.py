"""A trainer whose processes share every batch, and, if so configured, one copy of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import AutocastKwargs
from torch import Tensor, nn
from transformers import Trainer

from udr_training.losses import average_gradients, num_processes, process_number, tensor_size
from udr_training.trainer.sharing.shards import Shards


class SharedTraining(Trainer):
    """A trainer that averages gradients over the processes itself.

    Torch's DDP would do so at its own single forward pass, but a loss here has several: one for each length of text or
    mini-batch, and one for each tower.
    """

    # None before the training, for Transformers' types.
    model: Any
    optimizer: Any
    lr_scheduler: Any
    _shards: Shards | None = None

    def create_accelerator_and_postprocess(self) -> None:
        """Keep Accelerate from wrapping the model in DDP."""
        # Else one process would use all GPUs that it sees (nn.DataParallel), with a batch for each of them.
        self.args._n_gpu = min(1, self.args.n_gpu)
        super().create_accelerator_and_postprocess()
        if num_processes() > 1:
            prepare = self.accelerator.prepare_model
            self.accelerator.prepare_model = partial(prepare, evaluation_mode=True)

    def shard(self, *, fsdp: bool) -> None:
        """Leave each process its part of the weights, by ``fsdp``, or in tensor-parallel groups; see ``Shards``."""
        accelerator: Any = self.accelerator
        if fsdp or tensor_size() > 1:
            self._shards = Shards(self.model, fsdp=fsdp)
        if fsdp:
            # It would keep all weights that were gathered, in reduced precision, until the end of the pass.
            accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
        if self._shards and tensor_size() > 1:
            accelerator.clip_grad_norm_ = self._shards.clip_gradients

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the gradients, and average them."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._shards:
            self._shards.finish_gradients()
        else:
            average_gradients(model.parameters())
        return loss

    def gather(self) -> Any:  # noqa: ANN401
        """Return the model with all of its weights, which only the first process has; all processes call this."""
        return self._shards.gather() if self._shards else self.model

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        """Put the whole model in the place of its shards."""
        shards, self.model = self.model, self.gather()
        try:
            yield
        finally:
            if self._shards:
                self._shards.whole.to("meta")
            self.model = shards

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        with self._gathered():
            # Sentence-Transformers' own would write in every process.
            if process_number() == 0:
                super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._shards is None:
            super()._load_from_checkpoint(resume_from_checkpoint)
            return
        with self._gathered():
            if process_number() == 0:
                super()._load_from_checkpoint(resume_from_checkpoint)
            self._shards.scatter()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._shards is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # As without shards, so that a training resumes with another number of processes, or without shards.
        optimizer = self._shards.full_state(self.optimizer)
        if process_number() == 0:
            torch.save(optimizer, Path(output_dir, "optimizer.pt"))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._shards is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # The trainer's own would load the whole state onto every GPU.
        load: Any = partial(torch.load, map_location="cpu", mmap=True, weights_only=True)
        self._shards.load_state(self.optimizer, load(Path(checkpoint, "optimizer.pt")))
        self.lr_scheduler.load_state_dict(load(Path(checkpoint, "scheduler.pt")))
