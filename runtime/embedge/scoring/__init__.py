"""Built on embeddings: zero-shot labels, pairs of a query and a document, and rankings."""
