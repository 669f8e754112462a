"""What every room needs and nothing else.

Settings, the home's paths, the clock, the warehouse connection and its lock, the lake's contract, error types.
Business rules do not belong here.
"""
