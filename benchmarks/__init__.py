"""Measures the package beside what the machine itself can do: `python -m benchmarks --help`."""
