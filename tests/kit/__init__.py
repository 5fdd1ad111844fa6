"""The test kit: slow, obviously right references that share no code with the package's fast paths."""
