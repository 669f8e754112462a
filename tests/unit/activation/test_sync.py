"""Documents of syncs: what is refused in them, and that the one for Mailchimp fits an account of the smallest plan."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from activation import sync
from core.errors import PlanError
from core.settings import Settings

MERGE_FIELDS = 24  # of the 30 that the smallest accounts have, as others use some too


def test_two_columns_never_share_a_field() -> None:
    fields = {"given_name": "SAME", "surname": "SAME"}
    with pytest.raises(ValidationError, match="two columns would become SAME"):
        sync.Sync(name="one", platform="mailchimp", key="email", fields=fields)


def test_an_unknown_sync_is_named_with_those_that_there_are() -> None:
    with pytest.raises(PlanError, match=r"there is no sync 'pigeon'; there is: .*mailchimp"):
        sync.read(Settings(), "pigeon")


def test_mailchimp_has_merge_fields_enough() -> None:
    assert len(sync.read(Settings(), "mailchimp").fields) <= MERGE_FIELDS
