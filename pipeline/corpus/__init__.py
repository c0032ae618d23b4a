"""From bytes to documents: readers of formats, cleaning steps, and which document goes into which split."""
