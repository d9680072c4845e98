"""The beat network of the default tracker, and the corpus it learns from."""
