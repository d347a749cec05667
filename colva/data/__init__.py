"""Training and inference data: from cases and conversations to model inputs, without the model's weights."""
