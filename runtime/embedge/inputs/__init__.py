"""Prepare (hop 4): raw parts become arrays. One module a modality; a bad item fails alone."""
