"""The control plane: everything that waits on the outside, so that the data path need not."""
