"""Slow, obvious calculations of what the marts claim, straight from the sample's files: what SQL is compared with.

Nothing here reads the lake, the warehouse or a model.
"""
