"""The statements of a batch, a verb a page: its text in both dialects, and its parameters."""
