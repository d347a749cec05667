"""Benchmarks of several sources, described by one file: the recipe."""
