"""Both training stages and what they run on."""
