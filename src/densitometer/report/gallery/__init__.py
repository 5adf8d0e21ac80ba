"""The gallery: one page of all cells that needs no network."""
