"""One file for each kind of model that answers questions."""
