with

lines as (
    select * from {{ ref("int_order_lines") }}
),

identifiers as (
    select
        identifier_id,
        customer_id
    from {{ ref("int_identifiers") }}
),

returns as (
    select
        identifiers.customer_id,
        lines.product_id,
        abs(lines.quantity) as quantity,
        lines.occurred_at,
        lines.known_at,
        lines.superseded_at
    from lines
    inner join identifiers on lines.identifier_id = identifiers.identifier_id
    where lines.line_type = 'return'
),

-- Returns are few: orders that may have come back are found by them.
returned as (
    select
        identifiers.identifier_id,
        returns.product_id,
        max(returns.occurred_at) as last_returned_at
    from returns
    inner join identifiers on returns.customer_id = identifiers.customer_id
    group by
        identifiers.identifier_id,
        returns.product_id
),

candidates as (
    select distinct
        lines.line_set_id,
        lines.document_known_at
    from lines
    inner join returned
        on
            lines.identifier_id = returned.identifier_id
            and lines.product_id = returned.product_id
    where
        lines.line_type = 'sale'
        and returned.last_returned_at >= {{ dbt.dateadd("day", "-" ~ var("reversal_days"), "lines.occurred_at") }}
),

orders as {{ materialized() }} (
    select
        orders.line_set_id,
        orders.document_known_at,
        identifiers.customer_id,
        min(orders.ordered_at) as ordered_at,
        min(orders.known_at) as known_at
    from {{ ref("int_orders") }} as orders
    inner join candidates
        on
            orders.line_set_id = candidates.line_set_id
            and orders.document_known_at = candidates.document_known_at
    inner join identifiers on orders.identifier_id = identifiers.identifier_id
    group by
        orders.line_set_id,
        orders.document_known_at,
        identifiers.customer_id
),

-- Kept, or the engine would sum up all that was ever sold before it looks which of it was asked for.
sold as {{ materialized() }} (
    select
        lines.line_set_id,
        lines.document_known_at,
        lines.product_id,
        orders.customer_id,
        orders.ordered_at,
        orders.known_at,
        lines.quantity
    from lines
    inner join orders
        on
            lines.line_set_id = orders.line_set_id
            and lines.document_known_at = orders.document_known_at
    where lines.line_type = 'sale'
),

ordered_products as (
    select
        line_set_id,
        document_known_at,
        product_id,
        customer_id,
        ordered_at,
        known_at,
        sum(quantity) as quantity
    from sold
    group by
        line_set_id,
        document_known_at,
        product_id,
        customer_id,
        ordered_at,
        known_at
),

product_counts as (
    select
        line_set_id,
        document_known_at,
        count(*) as products
    from ordered_products
    group by
        line_set_id,
        document_known_at
),

returned_products as (
    select
        products.line_set_id,
        products.document_known_at,
        products.product_id,
        products.quantity as ordered_quantity,
        returns.quantity,
        greatest(returns.known_at, products.known_at) as known_at,
        returns.superseded_at
    from ordered_products as products
    inner join returns
        on
            products.customer_id = returns.customer_id
            and products.product_id = returns.product_id
            and returns.occurred_at >= products.ordered_at
            and returns.occurred_at <= {{ dbt.dateadd("day", var("reversal_days"), "products.ordered_at") }}
    where returns.superseded_at is null or returns.superseded_at > products.known_at
),

-- What was known changes when a return becomes known and when a later version takes its place.
instants as (
    select
        line_set_id,
        document_known_at,
        known_at
    from returned_products

    union

    select
        line_set_id,
        document_known_at,
        superseded_at as known_at
    from returned_products
    where superseded_at is not null
),

balances as (
    select
        instants.line_set_id,
        instants.document_known_at,
        instants.known_at,
        returned_products.product_id,
        returned_products.ordered_quantity,
        sum(
            case
                when
                    returned_products.known_at <= instants.known_at
                    and (
                        returned_products.superseded_at is null
                        or returned_products.superseded_at > instants.known_at
                    )
                    then returned_products.quantity
                else 0
            end
        ) as returned_quantity
    from instants
    inner join returned_products
        on
            instants.line_set_id = returned_products.line_set_id
            and instants.document_known_at = returned_products.document_known_at
    group by
        instants.line_set_id,
        instants.document_known_at,
        instants.known_at,
        returned_products.product_id,
        returned_products.ordered_quantity
),

states as (
    select
        balances.line_set_id,
        balances.document_known_at,
        balances.known_at,
        count(case when balances.returned_quantity >= balances.ordered_quantity then 1 end)
        = min(product_counts.products) as is_reversed
    from balances
    inner join product_counts
        on
            balances.line_set_id = product_counts.line_set_id
            and balances.document_known_at = product_counts.document_known_at
    group by
        balances.line_set_id,
        balances.document_known_at,
        balances.known_at
),

-- What had all come back may be said not to have, and come back after all.
turns as (
    select
        *,
        lag(is_reversed, 1, false) over in_time as was_reversed
    from states
    window in_time as (partition by line_set_id, document_known_at order by known_at)
),

spans as (
    select
        line_set_id,
        document_known_at,
        is_reversed,
        known_at as changed_at,
        lead(known_at) over in_time as ended_at,
        row_number() over in_time as turn
    from turns
    where is_reversed <> was_reversed
    window in_time as (partition by line_set_id, document_known_at order by known_at)
),

reversals as (
    select
        line_set_id,
        document_known_at,
        changed_at as reversed_known_at,
        ended_at as reversal_ended_at,
        case when turn > 1 then changed_at end as stands_from,
        lead(changed_at) over (partition by line_set_id, document_known_at order by changed_at) as stands_until
    from spans
    where is_reversed
)

select * from reversals
