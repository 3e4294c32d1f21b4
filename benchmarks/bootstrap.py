"""Time and memory of 20,000 clusters x 10,000 draws of 20 metrics at once in `rmbench.metrics.interval.estimate`.

The floor is arithmetic: every draw is a row of 20,000 counts times a table of 40 column sums, 16 x 10^9 multiplications
and additions, after 2 x 10^8 random picks. The bound is 20 s on 2 cores, with 1 GiB beyond what the rows themselves
take; more memory than that exits with 1.
"""

import argparse
import resource
import sys
import time

import numpy as np

from rmbench.metrics.interval import estimate, mean

CLUSTERS, METRICS = 20_000, 20
BOUND_SECONDS, BOUND_MIB = 20.0, 1024.0


def main() -> int:
    """Prints the table; 1 where the memory is over its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    draws = parser.parse_args().draws
    rng = np.random.default_rng(0)
    clusters = np.arange(CLUSTERS)
    statistics = [mean(f"metric {i}", rng.random(CLUSTERS), "fraction") for i in range(METRICS)]
    estimate(statistics[:1], clusters, draws=2)  # imports
    before = peak_mib()
    started = time.perf_counter()
    found = estimate(statistics, clusters, draws=draws)
    seconds, extra = time.perf_counter() - started, peak_mib() - before
    assert all(one.ci_low < one.value < one.ci_high for one in found)
    print(f"{CLUSTERS:,} clusters x {draws:,} draws x {METRICS} metrics")
    print(f"{'time':>8}  {seconds:8.1f} s    {seconds / BOUND_SECONDS:.2f} x the bound of {BOUND_SECONDS:.0f} s")
    print(f"{'memory':>8}  {extra:8.0f} MiB  {extra / BOUND_MIB:.2f} x the bound of {BOUND_MIB:.0f} MiB")
    return int(extra > BOUND_MIB)


def peak_mib() -> float:
    """The most memory that the process has held, in MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    sys.exit(main())
