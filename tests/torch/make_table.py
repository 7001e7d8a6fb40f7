"""Runs of one task in a CSV file to a watch table; for the interpreter that has the package's own dependencies.

Usage: make_table.py RUNS.csv METRIC THRESHOLD WORTH TABLE.json
"""

import sys

import bayes_prehoc as bp


def main():
    source, metric, threshold, worth, out = sys.argv[1:]
    runs = bp.read_runs(source, outcome=metric)
    posterior = bp.fit(bp.estimate_risk(runs, proxy="conditional"))
    if not posterior.converged:
        sys.exit(posterior.checks().to_string())
    table = bp.watch_table(posterior, posterior.tasks[0], runs=runs, threshold=float(threshold), worth=float(worth))
    table.save(out)


if __name__ == "__main__":
    main()
