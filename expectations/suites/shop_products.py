"""The lake's shop.products: the catalogue as delivered. A home may be without one."""

from __future__ import annotations

from core.contract import load_contract
from expectations.rules import ROW, Suite, between, contract_rules, given, none_from, none_where


def suite() -> Suite:
    """One row per product and delivery."""
    return Suite(
        group="raw",
        table="lake_shop.products",
        keys=ROW,
        optional=True,
        rules=(
            *contract_rules(load_contract().table("shop", "products")),
            none_from(
                "product_once_per_delivery",
                "select delivery_id, row_number from {batch}"
                " qualify count(*) over (partition by delivery_id, upper(trim(product_id))) > 1",
                "warning",
                "A delivery tells a product once; of a repeated one the last row counts.",
            ),
            given("name", "warning", share=0.95),
            between("unit_price", 0, None, "warning"),
            none_where(
                "links_are_web_addresses",
                "not regexp_matches(coalesce(guarded.url, 'https://'), '^https?://')"
                " or not regexp_matches(coalesce(guarded.image_url, 'https://'), '^https?://')",
                ROW,
                "warning",
                "url and image_url begin with http:// or https://; mail with another link is broken.",
            ),
            none_where(
                "attributes_are_json",
                "not json_valid(guarded.attributes)",
                ROW,
                "warning",
                "attributes is a JSON object; another text is not read.",
            ),
        ),
    )
