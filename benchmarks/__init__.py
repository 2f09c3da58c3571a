"""Named suites that check speed, which tests never do: ``python -m benchmarks SUITE``."""
