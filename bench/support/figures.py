"""How a benchmark reports: a table for people and `figure` lines for programs."""
import statistics
import sys


class Figures:
    """Collects values with their targets; `report` prints them and says whether all were met."""

    def __init__(self):
        self.lines = []

    def add(self, name, value, unit, relation, target):
        met = value <= target if relation == "<=" else value >= target
        self.lines.append((name, value, unit, relation, target, "ok" if met else "short"))

    def report(self):
        width = max((len(line[0]) for line in self.lines), default=0)
        print(f"\n{'what':<{width}}  {'value':>10}  {'target':>12}")
        for name, value, unit, relation, target, verdict in self.lines:
            print(f"{name:<{width}}  {value:>10.3f}  {relation:>3} {target:>8g}  {unit}  {verdict}")
        print()
        for name, value, unit, relation, target, verdict in self.lines:
            print(f"figure {name} {value:.4g} {unit} target {relation} {target:g} {verdict}")
        return all(line[5] == "ok" for line in self.lines)


def median(values):
    return statistics.median(values)


def spread(values):
    return f"{median(values):.3f} ({min(values):.3f} … {max(values):.3f})"


def say(text):
    print(text, file=sys.stderr, flush=True)
