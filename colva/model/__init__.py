"""The model: `colva.model.load(path)` gives one in eval mode."""
