"""The cases: each sets off one fault, takes it back, and returns whether it came true."""
