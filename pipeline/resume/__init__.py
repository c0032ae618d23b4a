"""What a killed stage goes on from: where it lies, whose it is, and when it goes."""
