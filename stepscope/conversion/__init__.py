"""Turns a model's weights into what a runtime loads; runs in a child process of the worker, and holds no state."""
