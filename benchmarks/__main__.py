"""Runs one named suite and prints its table; every module of this package with a ``main`` is a suite."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    suites = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in suites:
        print(f"usage: python -m benchmarks {{{','.join(suites)}}}", file=sys.stderr)
        return 2
    suite = importlib.import_module(f"benchmarks.{sys.argv[1]}")
    return int(suite.main(sys.argv[2:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
