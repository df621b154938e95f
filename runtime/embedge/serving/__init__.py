"""The gRPC server: the wire on one side, the embedder on the other, and no logic between them."""
