"""Processes that make training steps when told to, and say what the steps cost.

A stepper gets its work as JSON on the command line, says `ready` once it can step, and answers
each line `N` with the CPU and wall seconds that N steps took.
"""
