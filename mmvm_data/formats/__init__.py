"""One file a format: the benchmark folder, its table, SFT records, VLMEvalKit, the Hub and WebDataset."""
