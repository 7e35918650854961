"""Coverage of the intervals of one arm's rate (`safekey.comparison.arm_rates`) in simulated runs with a known truth.

python bench/arm_coverage.py                        the numbers of docs/report.md (under a minute)
python bench/arm_coverage.py --worlds 4 --runs 100  quicker and less precise
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from scipy import special

from safekey.comparison.arm_rates import rate

BEHAVIOUR, WHIM = 1.5, 0.7  # standard deviations on the logit: of a behaviour, and of a run on a behaviour
WORLDS = [
    (seeds, shape, share, spread)
    for seeds, shape, share, spread in itertools.product((1, 3, 5), ((72, 6), (144, 1)), (0.05, 0.45), (0.0, 0.4))
    if seeds > 1 or not spread  # the interval of one run does not cover seeds
]


def coverage(
    seeds: int, shape: tuple[int, int], share: float, spread: float, runs: int, random: np.random.Generator
) -> tuple[float, float]:
    """Return the share of intervals that contain the true rate, and their mean width.

    Args:
        seeds: training runs.
        shape: behaviours, and attacks on each.
        share: the rate at the middle of the logits; the true one is its mean over all effects.
        spread: standard deviation of a seed's effect on the logit.
        runs: simulated experiments.
        random: the generator of the draws.
    """
    behaviours, attacks = shape
    middle = special.logit(share)
    every = random.normal(size=400_000) * np.sqrt(BEHAVIOUR**2 + WHIM**2 + spread**2)
    truth = special.expit(middle + every).mean()
    clusters = np.repeat(np.arange(behaviours), attacks)
    held, width = 0, 0.0
    for _ in range(runs):
        logits = middle + random.normal(0, BEHAVIOUR, behaviours) + random.normal(0, spread, (seeds, 1))
        logits = np.repeat(logits + random.normal(0, WHIM, (seeds, behaviours)), attacks, axis=1)
        found = rate((random.random(logits.shape) < special.expit(logits)).astype(float), clusters)
        held += found.low <= truth <= found.high
        width += found.high - found.low
    return held / runs, width / runs


def main() -> None:
    """Print a line for each world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=len(WORLDS), help=f"only the first N of {len(WORLDS)}")
    parser.add_argument("--runs", type=int, default=600, help="simulated experiments in each (600)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    print("seeds  behaviours × attacks  rate  seed sd  covered, %  width, points")
    for seeds, shape, share, spread in WORLDS[: args.worlds]:
        held, width = coverage(seeds, shape, share, spread, args.runs, random)
        size = f"{shape[0]} × {shape[1]}"
        print(
            f"{seeds:5}  {size:>20}  {share:4.2f}  {spread:7.1f}  {100 * held:10.1f}  {100 * width:13.1f}", flush=True
        )


if __name__ == "__main__":
    main()
