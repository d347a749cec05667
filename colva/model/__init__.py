"""The networks: backbones, experts, the adapter, pooling, and the model that joins them."""
