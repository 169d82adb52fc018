"""The command ``udr pool criteria``.

``--json`` prints ``file``, ``pairs``, ``agreement`` (of the majority), ``spent``, and the ``criteria`` that were kept
and ``dropped``, each with ``name``, ``agreement``, ``confidence`` and ``decided``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import STATUS, expand_options, print_json, print_text
from udr.files import refuse_existing
from udr.types import Json
from udr_training.config import ServerOptions, TasksFolder
from udr_training.pool.tasks import ServerAddress, TaskName, answers_file, check_server, one_task, text_asker

if TYPE_CHECKING:
    from udr_training.pool.criteria.mining import Judged

_MANAGER_TOKENS = 2_000


@expand_options
def criteria(
    tasks_folder: TasksFolder,
    pairs: Annotated[
        Path, typer.Option(help='Which of two rows a person prefers, about 30 lines of {"better": ID, "worse": ID}.')
    ],
    lm: ServerAddress,
    out: Annotated[Path, typer.Option("--out", help="The file of criteria to write (TOML).")],
    *,
    tasks: TaskName = None,
    worker_lm: Annotated[
        str | None,
        typer.Option(
            help="The server of the model that judges pairs. Unless it is that of --lm, its key is in "
            "UDR_WORKER_LM_KEY, and it gets no header or query of --lm-set.",
            show_default="that of --lm",
        ),
    ] = None,
    number: Annotated[int, typer.Option("--criteria", help="Criteria that are judged in a round.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds in which criteria are revised or replaced.")] = 3,
    agreement: Annotated[
        float, typer.Option(help="The share of pairs in which a criterion that is kept agrees with the person.")
    ] = 0.75,
    server: ServerOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the criteria by which a person prefers some rows to others: a model proposes them, and judges by them."""
    # Imported here, so that `udr --help` stays light.
    from udr_training.answering import PaidAnswers, ServerLM
    from udr_training.pool.criteria.files import read_pairs, write_criteria
    from udr_training.pool.criteria.mining import MiningSettings, mine

    settings = MiningSettings(number=number, rounds=rounds, keep=agreement)
    worker_lm = worker_lm or lm
    for address in (lm, worker_lm):
        check_server(address)
    budget, asked = server.budget(lm), server.settings()
    folder = one_task(tasks_folder, tasks)
    refuse_existing(out)
    preferences = read_pairs(pairs, folder.rows("train"))
    with PaidAnswers(answers_file(out)) as paid:
        manager = ServerLM(lm, asked, budget, paid)
        worker = ServerLM(worker_lm, asked.for_worker(lm, worker_lm), budget, paid)
        judged = text_asker(worker, folder.task.name)
        mined = mine(
            folder.task,
            preferences,
            text_asker(manager, folder.task.name, _MANAGER_TOKENS),
            judged,
            settings,
            STATUS.notice,
        )
        spent = manager.spent
    STATUS.finish()
    write_criteria(out, folder.task, lm, mined)
    if as_json:
        numbers: dict[str, Json] = {"file": str(out), "pairs": len(preferences), "spent": spent}
        lists = {"criteria": _records(mined.kept), "dropped": _records(mined.dropped)}
        print_json({**numbers, "agreement": round(mined.agreement, 4), **lists})
        return
    for one in mined.kept:
        print_text(f"{one.criterion.name}: agrees in {one.agreement:.0%} of {one.decided} pairs; {one.criterion.text}")
    print_text(f"{out}: {len(mined.kept)} criteria; their majority agrees in {mined.agreement:.0%}; spent: {spent}")


def _records(judged: "Sequence[Judged]") -> list[Json]:
    return [
        {
            "name": one.criterion.name,
            "agreement": round(one.agreement, 4),
            "confidence": round(one.confidence, 4),
            "decided": one.decided,
        }
        for one in judged
    ]
