"""What is made of vectors: labels without training, and pairs of a query and a document."""
