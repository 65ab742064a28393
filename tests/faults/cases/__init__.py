"""The cases: each sets off one fault, takes it back, and tells whether it came true."""
