"""What lies on disk, held against everything that says what should: found, told, mended, recorded."""
