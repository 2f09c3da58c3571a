"""One file = one technique: a module-level SPEC (and ``apply`` where it patches a named backend's own handle)."""
