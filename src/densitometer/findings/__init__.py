"""What the numbers of a study say: data and text, no picture."""
