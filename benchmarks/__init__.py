"""Benchmarks: what is fast is shown here, as ratios in one run, never asserted in a test."""
