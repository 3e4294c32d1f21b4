"""How long `rmbench --help` takes: median of interleaved runs, against the interpreter alone.

The floor is the interpreter's own start; what rmbench adds should be small beside it. The aim is 0.3 s.
"""

import statistics
import subprocess
import sys
import time

RUNS = 15
AIM_SECONDS = 0.3
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import rmbench": [sys.executable, "-c", "import rmbench"],
    "rmbench --help": [sys.executable, "-m", "rmbench", "--help"],
}


def main() -> None:
    """Prints the table."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    floor = statistics.median(seconds["python -c pass"])
    for name, some in seconds.items():
        median = statistics.median(some)
        print(f"{name:>16}  median {median:.3f} s  min {min(some):.3f}  max {max(some):.3f}  {median / floor:.1f} x")
    reached = statistics.median(seconds["rmbench --help"]) <= AIM_SECONDS
    print(f"rmbench --help under {AIM_SECONDS} s: {'yes' if reached else 'NO'}")


if __name__ == "__main__":
    main()
