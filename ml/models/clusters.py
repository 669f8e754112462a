"""Clusters: which customers are alike in how they buy and look around."""

from __future__ import annotations

from ml.clusters import ClusterModel

CLUSTERS = ClusterModel()
