"""The child process that holds one model under one LoadPlan and measures it: ``python -m stepscope.worker FD``."""
