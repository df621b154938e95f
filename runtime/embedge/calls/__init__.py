"""One call from admission to reply: preparing its items, collecting its rows, completing its reply."""
