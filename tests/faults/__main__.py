"""``python -m tests.faults``: do faults to the project on purpose, and count what did not hold.

Without options all trials of all campaigns, some hours; Ctrl-C or a kill stops it, and the same command goes on.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported, as for the tests (tests/conftest.py says why).
os.environ |= {"OMP_NUM_THREADS": "1", "GPTCORE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from gptcore.artifact import write_json
from gptcore.errors import GPTCoreError, ParameterError
from pipeline import project
from pipeline.sources import pinned
from tests.faults import runner
from tests.faults.journal import opened

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, package: str = runner.CAMPAIGNS) -> int:
    """Returns 0 where every promise held, 1 where one did not, 130 after Ctrl-C, else the code of the error."""
    options = _parser().parse_args(arguments)
    project.quiet()
    os.environ.setdefault("GPTCORE_CACHE", str(pinned.default_cache().absolute()))
    try:
        campaigns = runner.choose(runner.discover(package), options.campaign)
        if options.list:
            return _list(campaigns)
        if options.number is not None:
            return _repeat(campaigns, options)
        return _run(campaigns, options)
    except GPTCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--campaign", nargs="+", default=[], metavar="NAME", help="these only")
    parser.add_argument("--selection", action="store_true", help="the trials of CI: the first of each campaign")
    parser.add_argument("--seed", type=int, default=0, help="other choices (default 0)")
    parser.add_argument("--number", type=int, help="repeat one trial of one campaign; its folder stays if it fails")
    parser.add_argument("--out", type=Path, default=Path("data/.scratch/faults.jsonl"), help="the record (%(default)s)")
    parser.add_argument("--whatever-code", action="store_true", help="go on with a record of other code")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write each campaign's figures as JSON")
    parser.add_argument("--list", action="store_true", help="print the campaigns and what they promise")
    return parser


def _list(campaigns: Sequence[runner.Campaign]) -> int:
    for campaign in campaigns:
        print(f"{campaign.name}  ({campaign.full} trials, {campaign.selection} in CI)\n    {campaign.promise}")
    return 0


def _repeat(campaigns: Sequence[runner.Campaign], options: argparse.Namespace) -> int:
    if len(campaigns) != 1:
        raise ParameterError(f"--number: expected one --campaign with it, found {len(campaigns)}")
    work = options.out.absolute().with_suffix("")
    with runner.prepared(campaigns[0], work) as shared:
        result = runner.trial(campaigns[0], options.number, options.seed, work, shared)
    print(runner.line(result))
    if not result.ok:
        print(f"its folder: {work / result.campaign / str(result.number)}")
    return 0 if result.ok else 1


def _run(campaigns: Sequence[runner.Campaign], options: argparse.Namespace) -> int:
    with opened(options.out.absolute(), whatever_code=options.whatever_code) as journal:
        how = {"seed": options.seed, "selection": options.selection}
        interrupted, reasons = False, []
        try:
            reasons = runner.run(campaigns, journal, **how, work=journal.path.with_suffix(""))
        except KeyboardInterrupt:
            interrupted = True
            print("\nstopped; the same command goes on", file=sys.stderr)
        print(runner.table(campaigns, journal, **how))
        for reason in reasons:
            print(f"NOT TESTED: {reason}")
        if options.summary:
            former = json.loads(options.summary.read_text()) if options.summary.is_file() else {}
            write_json(options.summary, runner.summary(campaigns, journal, options.seed, former))
        failed = [r for campaign in campaigns for r in runner.results(campaign, journal, options.seed) if not r.ok]
    if interrupted:
        return INTERRUPTED
    return 1 if failed or (reasons and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
