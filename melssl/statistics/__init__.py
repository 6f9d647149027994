"""Statistics: intervals, tests of differences, DeLong, draws and seeds, labels saved.

NumPy and SciPy only: arrays come in, named results go out, and nothing here knows a trial.
"""
