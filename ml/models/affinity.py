"""Product affinity: what each customer is likely to buy next, and what goes with what."""

from __future__ import annotations

from ml.recommending import AffinityModel

AFFINITY = AffinityModel(
    name="affinity",
    question="Which twenty products is this customer most likely to buy next, and why?",
    baseline="the customer's own history, or what everyone buys now, whichever is better",
)
