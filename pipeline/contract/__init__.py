"""What a stage is: its paths, its parameters, what it says of itself, and the code that it is made of."""
