"""``python -m pipeline.tracking``: the feeder; with ``--drain`` delivers what was left behind and ends."""

import argparse
import os
import sys

from pipeline.tracking import delivery, runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    parser.add_argument("--drain", action="store_true", help="deliver what is spooled, then end")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for --drain")
    options = parser.parse_args()
    os.nice(10)
    if options.drain:
        sys.exit(0 if runs.deliver(options.timeout) else 1)
    delivery.feed(runs.spool_directory(), runs.open_store)


if __name__ == "__main__":
    main()
