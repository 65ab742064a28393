"""A pipeline as generated Python: one function for each table and form of input. Pure.

Nothing of the file is pasted into code: its texts are constants of a namespace, and names in the code are numbers.
"""
