"""Ours and a peer in turn, several rounds, each measure in a process of its own: medians beside
each other. benches/peers/run.sh says how to call it."""

import argparse
import json
import os
import statistics
import subprocess
import sys

# What .cargo/config.toml has glibc do with large blocks, for both sides, and two threads for each.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_ARENA_MAX": "1",
    "RAYON_NUM_THREADS": "2",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def run(command):
    """What a command prints to standard output; its errors end this program."""
    environment = os.environ | ENVIRONMENT
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"compare.py: code {result.returncode} from: {' '.join(command)}")
    return result.stdout


def figures(command):
    return [json.loads(line) for line in run(command).splitlines()]


def compare(measure, ours, peer, rounds, smoke):
    """The rows of one measure: its seconds, and whatever else the two sides print."""
    extra = ["--smoke"] if smoke else []
    sides = {"ours": [ours, measure, "--json", *extra], "peer": [*peer, measure, *extra]}
    values = {}
    for at in range(rounds):
        for side, command in sides.items():
            if side == "peer" and not peer:
                continue
            print(f"{measure}: {side}, round {at + 1} of {rounds}", file=sys.stderr)
            for figure in figures(command):
                row = values.setdefault((figure["name"], figure["unit"]), {"ours": [], "peer": []})
                row[side].append(figure["value"])
    for (name, unit), row in values.items():
        medians = {side: statistics.median(row[side]) if row[side] else None for side in row}
        has_both = None not in medians.values()
        # Of seconds and megabytes the fewer the better: over 1, ours is.
        ratio = medians["peer"] / medians["ours"] if has_both else None
        yield {"name": name, **medians, "unit": unit, "ratio": ratio, "runs": rounds}


def show(rows, peer_name):
    """One line a measure, for people."""

    def cell(value):
        return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.4g}"

    print(f"| measure | unit | ours | {peer_name} | ratio |")
    print("| --- | --- | ---: | ---: | ---: |")
    for row in rows:
        ours, peer, ratio = (cell(row[key]) for key in ("ours", "peer", "ratio"))
        print(f"| {row['name']} | {row['unit']} | {ours} | {peer} | {ratio} |")
    print(f"\nMedians of {rows[0]['runs']} runs each, in turn; ratio over 1: ours is better.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="the bench's executable")
    parser.add_argument("--peer", nargs="*", default=[], help="the peer's command; none: ours alone")
    parser.add_argument("--peer-name", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="measures [default: all of them]")
    parser.add_argument("--json", action="store_true", help="a line a measure, as it is done")
    parser.add_argument("--smoke", action="store_true", help="tiny and once, to see that it runs")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5 and not arguments.smoke:
        print(f"compare.py: others keep {load:.1f} cores busy: figures will mislead", file=sys.stderr)
    rows = []
    for measure in arguments.only or run([arguments.ours, "--list"]).split():
        rounds = 1 if arguments.smoke else arguments.rounds
        for row in compare(measure, arguments.ours, arguments.peer, rounds, arguments.smoke):
            rows.append(row)
            if arguments.json:
                print(json.dumps(row), flush=True)
    if not arguments.json:
        show(rows, arguments.peer_name)


if __name__ == "__main__":
    main()
