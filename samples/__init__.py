"""Data to try the system on: one real retailer, with its licence, and one simulated with known ground truth.

A sample only prepares raw files in the lake's contract; ingestion takes them in like anybody else's. Nothing that
production needs belongs here.
"""
