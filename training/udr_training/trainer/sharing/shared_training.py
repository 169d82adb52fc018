"""A trainer whose processes share every batch, and, with ``train.fsdp``, one copy of the weights (torch's FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import AutocastKwargs
from torch import Tensor, nn
from transformers import Trainer
from transformers.modeling_layers import GradientCheckpointingLayer

from udr_training.losses import average_gradients, num_processes, process_number


class SharedTraining(Trainer):
    """A trainer that averages gradients over the processes itself.

    Torch's DDP would do so at its own single forward pass, but a loss here has several: one for each length of text or
    mini-batch, and one for each tower.
    """

    # None before the training, for Transformers' types.
    model: Any
    optimizer: Any
    lr_scheduler: Any
    _whole: nn.Module | None = None
    """The model of a sharded training as it was, without memory for its weights but while they are gathered."""

    def create_accelerator_and_postprocess(self) -> None:
        """Keep Accelerate from wrapping the model in DDP."""
        # Else one process would use all GPUs that it sees (nn.DataParallel), with a batch for each of them.
        self.args._n_gpu = min(1, self.args.n_gpu)
        super().create_accelerator_and_postprocess()
        if num_processes() > 1:
            prepare = self.accelerator.prepare_model
            self.accelerator.prepare_model = partial(prepare, evaluation_mode=True)

    def shard(self) -> None:
        """Shard the model; see ``shard``."""
        self._whole = shard(self.model)
        # It would keep all weights that were gathered, in reduced precision, until the end of the pass.
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the gradients, and average them."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if num_processes() > 1 and self._whole is None:
            average_gradients(model.parameters())
        return loss

    def gather(self) -> Any:  # noqa: ANN401
        """Return the model with all of its weights, which only the first process has; all processes call this."""
        if self._whole is None:
            return self.model
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        weights = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if process_number() == 0:
            self._whole.load_state_dict(weights, assign=True)
        return self._whole

    @contextmanager
    def _gathered(self) -> Iterator[nn.Module]:
        """Put the whole model in the place of its shards, which are yielded."""
        shards, self.model = self.model, self.gather()
        try:
            yield shards
        finally:
            if self.model is self._whole:
                self._whole.to("meta")
            self.model = shards

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        with self._gathered():
            # Sentence-Transformers' own would write in every process.
            if process_number() == 0:
                super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._whole is None:
            super()._load_from_checkpoint(resume_from_checkpoint)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        with self._gathered() as shards:
            if process_number() == 0:
                super()._load_from_checkpoint(resume_from_checkpoint)
            weights = self.model.state_dict() if process_number() == 0 else {}
            set_model_state_dict(
                shards, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            )

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._whole is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # As without shards, so that a training resumes with another number of processes, or without shards.
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            number: {name: _full(value) for name, value in state.items()}
            for number, state in optimizer["state"].items()
        }
        if process_number() == 0:
            torch.save(optimizer, Path(output_dir, "optimizer.pt"))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._whole is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # The trainer's own would load the whole state onto every GPU.
        load: Any = partial(torch.load, map_location="cpu", mmap=True, weights_only=True)
        optimizer = load(Path(checkpoint, "optimizer.pt"))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for number, state in optimizer["state"].items():
            optimizer["state"][number] = {name: _part(value, parameters[number]) for name, value in state.items()}
        self.optimizer.load_state_dict(optimizer)
        self.lr_scheduler.load_state_dict(load(Path(checkpoint, "scheduler.pt")))


def shard(model: Any) -> nn.Module:  # noqa: ANN401
    """Leave each process its part of a model's weights, and so of their gradients and of the optimizer's state (FSDP2).

    A layer's weights are gathered while it computes, those outside of layers for the whole pass. So all processes have
    to make the same passes. It replaces Accelerate's, which shards nothing on CPUs, in silence.

    Returns:
        A copy of the model as it was, without memory for its weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole: nn.Module = deepcopy(
        model, {id(weight): nn.Parameter(weight.to("meta"), weight.requires_grad) for weight in model.parameters()}
    )
    model.register_forward_hook(_plain)
    mesh = init_device_mesh(model.device.type, (num_processes(),))
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    # The inner ones first.
    for module in reversed(layers):
        fully_shard(module, mesh=mesh)
    # By default, the rest would stay whole between passes.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    # Memory that the first pass allocates belongs to inference alone if it validates.
    for module in (*layers, model):
        module.unshard()
        module.reshard()
    return whole


def _plain(model: nn.Module, arguments: object, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return outputs in a dict, as FSDP finds none in a ``BatchEncoding``, and without views, of which it warns."""
    return {
        name: value.clone() if getattr(value, "_base", None) is not None else value for name, value in outputs.items()
    }


def _full(value: object) -> object:
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if process_number() == 0 else None


def _part(value: object, parameter: Tensor) -> object:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(value, Tensor) or not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
