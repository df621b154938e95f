"""Who is let in and what runs next: admission, the fair queue, forming batches, the cost table."""
