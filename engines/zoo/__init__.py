"""Small models of many kinds, with random weights: what a recipe of one's own module looks like, and what tests run.

Each is the shape of a published model at a size that trains nothing. Every `forward` takes the graph's inputs by name;
masks may be left out for one item without padding.
"""
