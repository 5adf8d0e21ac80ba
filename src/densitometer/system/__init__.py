"""The machine: files, processes, compilation."""
