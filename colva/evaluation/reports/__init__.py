"""HTML reports of runs and their comparison."""
