"""From cases and conversations to the tensors that the model takes; nothing in here needs the model's weights."""
