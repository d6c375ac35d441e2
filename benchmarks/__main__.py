"""``python -m benchmarks``: run the cases, print, judge, compare."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks import plot, report
from benchmarks.cases import CASES, Figures


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each case")
    parser.add_argument("--only", default=",".join(CASES), help="cases, with commas")
    parser.add_argument("--json", type=Path, help="write every value to this file")
    parser.add_argument("--plot", type=Path, help="write an SVG of cost against load")
    parser.add_argument("--update-baseline", action="store_true")
    options = parser.parse_args()

    figures: Figures = {}
    for name in options.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures |= CASES[name](options.runs)
    values, judgement = report.promises(report.medians(figures))
    print(report.table(figures), judgement, report.compare(values), sep="\n\n")
    if options.json:
        document = {"figures": figures, "promises": values}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.plot:
        options.plot.write_text(plot.draw(report.medians(figures)))
    if options.update_baseline:
        report.update_baseline(values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
