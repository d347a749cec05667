"""Reviews of cases in Label Studio."""
