"""Whole benchmarks: cases chosen so that shortcuts do not solve them."""
