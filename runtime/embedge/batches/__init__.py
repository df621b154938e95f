"""What a batch is: rows, how they are laid out and padded, and which shapes they can have. Pure functions."""
