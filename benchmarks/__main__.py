"""``python -m benchmarks``: run the cases, print, judge, compare."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks import plot, processes, report
from benchmarks.beside import command_line
from benchmarks.cases import CASES, Figures


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=command_line.epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--only", default=",".join(CASES), help="cases, with commas")
    parser.add_argument("--json", type=Path, help="write every value to this file")
    parser.add_argument("--plot", type=Path, help="write an SVG of cost against load")
    parser.add_argument("--update-baseline", action="store_true")
    command_line.add_arguments(parser)
    options = parser.parse_args()
    if options.beside:
        document = command_line.compare(options)
        if options.json:
            options.json.write_text(json.dumps(document, indent=2) + "\n")
        return 0

    figures: Figures = {}
    for name in options.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures |= CASES[name](options.runs)
    values, judgement = report.promises(report.medians(figures))
    print(report.table(figures), judgement, report.compare(values), sep="\n\n")
    if options.json:
        everything = {"figures": figures, "promises": values}
        options.json.write_text(json.dumps(everything, indent=2) + "\n")
    if options.plot:
        options.plot.write_text(plot.draw(report.medians(figures)))
    if options.update_baseline:
        report.update_baseline(values)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        processes.kill_children()
