"""Models: constants learned from data, training, evaluation, scoring. SQL features do not belong here: they are dbt models.

Every module imports scikit-learn and its like inside functions (seconds), as the command line reaches them.
"""
