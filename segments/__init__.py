"""Segments as code: their files read, rendered without dbt, checked, compared and, where broken, set aside.

What belongs here: what can be said of a segment from its SQL file, its YAML and a database that someone else opens.
What does not: the segments themselves (`dbt_project/models/segments`), and what a destination is told (`activation`).
"""
