"""Plain values that cross every boundary; standard library only, so that any process can import them at once."""
