"""Every suite. A table with rules of its own has a file; what the contract can tell of a table needs none."""

from __future__ import annotations

from core.contract import Table, load_contract
from expectations.rules import Group, Guard, Suite
from expectations.suites import (
    bookkeeping,
    crm_consents,
    crm_contacts,
    customer_lifecycle,
    customer_rfm,
    dim_customers,
    email_campaigns,
    email_events,
    email_sends,
    fct_order_lines,
    fct_orders,
    identity,
    lake,
    models,
    pos_sales,
    reference_postal_codes,
    releases,
    shop_exchange_rates,
    shop_order_lines,
    shop_orders,
    shop_products,
    staging,
    stg_crm__consents,
    stg_crm__contacts,
    stg_reference__postal_codes,
    stg_shop__exchange_rates,
    stg_shop__products,
    stg_third_party__demographics,
    syncs,
    third_party_demographics,
    web_events,
)

_DELIVERED = {
    "shop.orders": shop_orders.RULES,
    "shop.order_lines": shop_order_lines.RULES,
    "shop.products": shop_products.RULES,
    "shop.exchange_rates": shop_exchange_rates.RULES,
    "crm.contacts": crm_contacts.RULES,
    "crm.consents": crm_consents.RULES,
    "web.events": web_events.RULES,
    "email.campaigns": email_campaigns.RULES,
    "email.sends": email_sends.RULES,
    "email.events": email_events.RULES,
    "pos.sales": pos_sales.RULES,
    "third_party.demographics": third_party_demographics.RULES,
    "reference.postal_codes": reference_postal_codes.RULES,
}


def suites(group: Group | None = None) -> list[Suite]:
    """The suites of a group, or all of them, in the order in which their tables come about."""
    tables = load_contract().tables.values()
    found = [
        *(lake.suite(table, _DELIVERED.get(table.full_name, ())) for table in tables),
        *map(_staged, tables),
        *bookkeeping.suites(),
        *models.suites(),
        *identity.suites(),
        *releases.suites(),
        *syncs.suites(),
        *(mart.suite() for mart in (fct_orders, fct_order_lines, dim_customers, customer_rfm, customer_lifecycle)),
    ]
    return [suite for suite in found if group in (None, suite.group)]


def catalogue() -> list[Guard]:
    """Every check as (group, table, expectation, severity), without importing Great Expectations."""
    return [guard for suite in suites() for guard in suite.guards()]


def _staged(table: Table) -> Suite:
    match table.full_name:
        case "crm.contacts":
            return staging.suite(table, stg_crm__contacts.RULES, keys=stg_crm__contacts.KEYS, versions=True)
        case "crm.consents":
            return staging.suite(table, stg_crm__consents.RULES, keys=stg_crm__consents.KEYS)
        case "shop.orders" | "web.events" | "email.events":
            return staging.suite(table, versions=True)
        case "shop.exchange_rates":
            return staging.suite(table, stg_shop__exchange_rates.RULES, versions=True)
        case "shop.products":
            return staging.suite(table, stg_shop__products.RULES, versions=True)
        case "third_party.demographics":
            return staging.suite(table, stg_third_party__demographics.RULES)
        case "reference.postal_codes":
            return staging.suite(table, stg_reference__postal_codes.RULES, keys=stg_reference__postal_codes.KEYS)
        case _:
            return staging.suite(table)
