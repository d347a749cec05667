"""Evaluation on benchmarks of visual correspondence: any model, any such benchmark, numbers with their error bars."""
