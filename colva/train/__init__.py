"""Training: one engine, and the two stages of the paper that plug into it."""
