"""The dashboard's and the command line's side of a run: queue, worker processes, memory sampling, store."""
