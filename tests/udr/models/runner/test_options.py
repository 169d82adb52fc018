"""The options of ``--runner``: how workers share a cluster, and which combinations are refused."""

import math
from collections.abc import Sequence

import pytest

from udr.errors import ConfigError
from udr.models import RunnerOptions
from udr.models.runner import Node, share


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([Node(8, 0), Node(8, 0)], None, 0, (2, 8)),
        ([Node(8, 0), Node(8, 0)], 4, 0, (4, 4)),
        ([Node(8, 0), Node(8, 0)], 3, 0, (3, 4)),
        ([Node(2, 0)], 4, 0, (4, 0.5)),
        ([Node(0, 0), Node(4, 0)], None, 0, (1, 4)),
        ([Node(16, 4), Node(16, 2)], None, 1, (6, 1)),
        ([Node(16, 4), Node(4, 0)], None, 0.5, (8, 1)),
        ([Node(16, 4)], 3, 1, (3, 1)),
        ([Node(2, 8)], None, 1, (8, 0)),
    ],
)
def test_workers_get_all_cpus_that_fit_and_a_gpu_each(
    nodes: Sequence[Node], workers: int | None, gpus: float, expected: tuple[int, float]
) -> None:
    count, cpus = share(nodes, workers, gpus)
    assert (count, cpus) == expected
    assert not cpus or sum(math.floor(node.cpus / cpus) for node in nodes) >= count


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus"), [([Node(8, 1)], 2, 1), ([Node(8, 0)], None, 1), ([Node(0, 0)], 2, 0), ([], None, 0)]
)
def test_a_cluster_that_is_too_small_is_refused(nodes: Sequence[Node], workers: int | None, gpus: float) -> None:
    with pytest.raises(ConfigError, match=r"the Ray cluster has \d CPUs and \d GPUs, too few"):
        share(nodes, workers, gpus)


@pytest.mark.parametrize(
    ("options", "device", "message"),
    [
        (RunnerOptions(runner="spark"), "cpu", "--runner must be one of local, ray, found 'spark'"),
        (RunnerOptions(workers=2), "cuda:0", "each worker gets one: use --device cuda"),
        (RunnerOptions(ray_address="h:1", gpus_per_worker=1), "cpu", "--gpus-per-worker, --ray-address needs"),
        (RunnerOptions(runner="ray", gpus_per_worker=1.5), "cuda", "must be a whole number, found 1.5"),
        (RunnerOptions(runner="ray", gpus_per_worker=0), "cuda", "--device cuda needs --gpus-per-worker above 0"),
        (RunnerOptions(runner="ray", gpus_per_worker=1), "cpu", "needs --device cuda, found --device cpu"),
        (RunnerOptions(runner="ray"), "cuda:1", "use --device cuda"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options: RunnerOptions, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options.check(device)


def test_a_worker_has_a_gpu_if_the_device_is_one() -> None:
    options = RunnerOptions(runner="ray")
    options.check("cuda")
    options.check("cpu")
    assert (options.gpus("cuda"), options.gpus("cpu")) == (1, 0)
