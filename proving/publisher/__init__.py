"""Publishes metric events as an upstream service would, and writes down what the broker confirmed of each.

`events` says what is published (a function of a seed), `encoding` how it stands on the wire, `journal` what is written
down. Nothing here is the product's: an error in the product's encoder must not hide behind itself.
"""
