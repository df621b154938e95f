"""`embedge embed`."""
