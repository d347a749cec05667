"""Replies to options, options to scores with intervals."""
