"""One file = one runtime: a module-level SPEC and ``open_session``; found by stepscope.core.catalog."""
