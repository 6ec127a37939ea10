"""What every peer needs: timed repetitions, peak memory, one JSON line a figure.

The Rust side of the same is benches/support/mod.rs, and says what the lines mean.
"""

import argparse
import json
import statistics
import time


class Settings:
    """How thorough a run is."""

    def __init__(self, smoke):
        self.smoke = smoke

    def size(self, full, smoke):
        """The full size, or the one of a smoke run."""
        return smoke if self.smoke else full

    def time(self, timed, repetition):
        """The seconds of each timed repetition, after two that warm up."""
        warm_up, timed = (0, 1) if self.smoke else (2, timed)
        seconds = []
        for _ in range(warm_up + timed):
            start = time.perf_counter()
            repetition()
            seconds.append(time.perf_counter() - start)
        return seconds[warm_up:]


def peak_megabytes():
    """Most memory that this process ever had, from the kernel (getrusage would count its parent)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def main(measures):
    """Run the measure that the command line names; `measures` maps names to functions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measure", choices=measures)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    seconds = measures[arguments.measure](Settings(arguments.smoke))
    figures = [
        (arguments.measure, "s", statistics.median(seconds)),
        (f"{arguments.measure}, peak memory", "MB", peak_megabytes()),
    ]
    for name, unit, value in figures:
        print(json.dumps({"name": name, "unit": unit, "value": value}))
