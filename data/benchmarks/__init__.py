"""The published benchmarks of the downstream tasks."""
