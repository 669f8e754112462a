"""Estimators of our own by scikit-learn's contract: pure computation on columns, no database, no files, no registry.

The modules here import numpy, scipy and scikit-learn at the top, as their classes derive from scikit-learn's: import
them inside functions.
"""
