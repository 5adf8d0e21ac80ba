"""Many cells (target × family × seed), on every core, resumable, in one folder."""
