"""Images and text to tensors: tiles, tokens, chat templates, batches."""
