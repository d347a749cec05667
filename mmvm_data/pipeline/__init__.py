"""Building a benchmark: the pipeline, its workers and its journal."""
