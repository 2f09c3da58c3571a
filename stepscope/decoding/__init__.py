"""THE decode loop and its searches: one loop drives every session that can step, so per-step numbers mean the same."""
