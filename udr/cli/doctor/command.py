"""The command ``udr doctor``."""

from dataclasses import asdict
from functools import partial
from typing import Annotated

from typer import Option

from udr.cli.console import print_json, print_text
from udr.cli.options import AsJson
from udr.cli.status import STATUS
from udr.errors import VerificationError


def doctor(
    port: Annotated[int, Option(help="The port to serve on.", min=0, max=65535)] = 8000,
    as_json: AsJson = False,
) -> None:
    """Check this machine and installation, and say what to do about each problem. Nothing is sent or changed.

    If there is a problem, the exit status is 3. Notes matter only to some.
    """
    # Imported here: other commands need none of it.
    from udr.cli.doctor.checks import CHECKS, ENGINES, Check
    from udr.cli.doctor.findings import State
    from udr.cli.doctor.machine import check_port

    findings = []
    checks: list[Check] = [*CHECKS, partial(check_port, port), *ENGINES]
    for check in checks:
        if check in ENGINES:
            STATUS.begin(f"importing {check.__name__.removeprefix('check_')}...")
        for finding in check():
            findings.append(finding)
            if not as_json:
                print_text("\n".join(finding.lines()))
    STATUS.finish()
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    problems = [finding.check for finding in findings if finding.state is State.PROBLEM]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise VerificationError(f"{count}: {', '.join(problems)}; what to do stands at each, after ->")
    STATUS.notice("no problem found")
