from __future__ import annotations

from datetime import date, datetime

import pyarrow.parquet as pq
import pytest

from core.errors import MailwrightError
from ml import fits
from tests.unit.ml.conftest import AS_OF_ON


def test_the_first_refresh_makes_the_first_fit(build, home):
    made = fits.ensure(build(), home)

    assert made is not None
    assert (made.version, made.fit_as_of, made.constants) == (1, datetime(2024, 3, 4), 5)
    table = pq.read_table(home.state / "fits" / "fit_000001.parquet")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("fit_version", "int64"),
        ("fit_as_of", "timestamp[us]"),
        ("metric", "string"),
        ("account_type", "string"),
        ("k", "int32"),
        ("value", "decimal128(18, 4)"),
    ]


def test_a_later_refresh_keeps_the_first_fit(build, home):
    fits.ensure(build(), home)
    before = (home.state / "fits" / "fit_000001.parquet").read_bytes()

    assert fits.ensure(build(date(2024, 5, 1)), home) is None
    assert fits.ensure(build(date(2023, 5, 1)), home) is None
    assert [path.read_bytes() for path in (home.state / "fits").iterdir()] == [before]


def test_refit_appends_a_version(build, home):
    fits.ensure(build(), home)
    before = (home.state / "fits" / "fit_000001.parquet").read_bytes()

    made = fits.refit(build(date(2024, 4, 1)), home)

    assert (made.version, made.fit_as_of) == (2, datetime(2024, 4, 1))
    assert [fit.version for fit in fits.kept(home)] == [1, 2]
    assert (home.state / "fits" / "fit_000001.parquet").read_bytes() == before


def test_refit_refuses_an_as_of_that_has_a_fit(build, home):
    fits.ensure(build(), home)

    with pytest.raises(MailwrightError, match=f"fit 1 was made as of {AS_OF_ON}"):
        fits.refit(build(), home)
    assert len(fits.kept(home)) == 1


def test_without_orders_there_is_nothing_to_fit(build, home):
    connection = build()
    # The repurchase gap has a default also without orders.
    connection.execute("delete from features.feat_fit_candidates where metric <> 'repurchase_gap_days'")

    assert fits.ensure(connection, home) is None
    with pytest.raises(MailwrightError, match="nothing to fit"):
        fits.refit(connection, home)
    assert not (home.state / "fits").exists()
