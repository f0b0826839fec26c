"""Benevity, Goodera and Workday, simulated: the witness that the product is checked against.

A process of its own (`python -m impact_in.simulators`, docs/simulators.md). It shares no code with the
product, reads and signs for itself, and writes each receipt to disk before it answers.
"""
