{{ config(materialized="incremental", unique_key=["source", "order_id"]) }}

{%- set since = last_sequence() %}

{#-
    Orders of new deliveries, those that became known when new rates were there, and those that lacked a rate or product.
-#}
{%- set affected %}
    select
        'shop' as source,
        order_id
    from {{ ref("stg_shop__orders") }}
    where sequence > {{ since }}

    union

    select
        source,
        order_id
    from {{ ref("int_delivered_lines") }}
    where sequence > {{ since }}

    union

    select
        versions.source,
        versions.order_id
    from {{ this }} as versions
    inner join (
        select
            exchange_rates.from_currency as currency,
            min(exchange_rates.known_at) as known_at
        from {{ ref("stg_shop__exchange_rates") }} as exchange_rates
        inner join {{ ref("stg_lake__clock") }} as clock on exchange_rates.to_currency = clock.currency
        where exchange_rates.sequence > {{ since }}
        group by exchange_rates.from_currency
    ) as new_rates
        on
            versions.currency = new_rates.currency
            and (versions.known_at >= new_rates.known_at or versions.rates_known_at is null)

    union

    select
        lines.source,
        lines.order_id
    from {{ ref("int_delivered_lines") }} as lines
    inner join (
        select product_id
        from {{ ref("stg_shop__products") }}
        group by product_id
        having min(sequence) > {{ since }} and min(known_at) > cast('1900-01-01' as timestamp)
    ) as newly_listed on lines.product_id = newly_listed.product_id
{%- endset %}
{#- The delivery in which the first of them came. An order that is not stored yet came with the new ones. -#}
{%- set first = answer(
    "select min(versions.first_sequence) from " ~ this ~ " as versions inner join (" ~ affected
    ~ ") as affected on versions.source = affected.source and versions.order_id = affected.order_id"
) if is_incremental() else none %}
{%- set first = [since + 1, first | int] | min if first is not none else since + 1 %}

with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

-- Since when there is a rate for a currency at all, and when what is known of its rates changed.
rate_changes as (
    select
        exchange_rates.from_currency as currency,
        exchange_rates.known_at,
        lead(exchange_rates.known_at, 1, cast('9999-12-31' as timestamp)) over (
            partition by exchange_rates.from_currency order by exchange_rates.known_at
        ) as superseded_at
    from {{ ref("stg_shop__exchange_rates") }} as exchange_rates
    inner join clock on exchange_rates.to_currency = clock.currency
    group by
        exchange_rates.from_currency,
        exchange_rates.known_at
),

rated_late as (
    select
        currency,
        min(known_at) as rated_at
    from rate_changes
    group by currency
    having min(known_at) > cast('1900-01-01' as timestamp)
),

-- A product that the catalogue did not have when it was sold.
listed_late as (
    select
        product_id,
        min(known_at) as listed_at
    from {{ ref("stg_shop__products") }}
    group by product_id
    having min(known_at) > cast('1900-01-01' as timestamp)
),

{% if is_incremental() -%}
affected as {{ materialized() }} (
    {{ affected }}
),

{% endif -%}
headers as (
    select
        orders.*,
        'shop' as source
    from {{ ref("stg_shop__orders") }} as orders
    {% if is_incremental() %}
    inner join affected
        on affected.source = 'shop' and orders.order_id = affected.order_id
    where orders.sequence >= {{ first }}
    {% endif %}
),

listings as (
    select
        lines.source,
        lines.order_id,
        listed_late.listed_at
    from {{ ref("int_delivered_lines") }} as lines
    inner join listed_late on lines.product_id = listed_late.product_id
    {% if is_incremental() %}
    inner join affected
        on lines.source = affected.source and lines.order_id = affected.order_id
    where lines.sequence >= {{ first }}
    {% endif %}
),

-- The lines of an order as one delivery had them, and what they say of the order.
line_sets as (
    select
        lines.source,
        lines.order_id,
        lines.sequence,
        min(lines.row_number) as first_row,
        {{ has_repeats("lines.line_number") }} as may_repeat_numbers,
        min(lines.customer_ref) as customer_ref,
        max(lines.customer_ref) as other_customer_ref,
        min(lines.email) as email,
        min(lines.currency) as currency,
        max(lines.currency) as other_currency,
        min(lines.occurred_at) as occurred_at,
        min(lines.received_at) as received_at
    from {{ ref("int_delivered_lines") }} as lines
    {% if is_incremental() %}
    inner join affected
        on lines.source = affected.source and lines.order_id = affected.order_id
    where lines.sequence >= {{ first }}
    {% endif %}
    group by
        lines.source,
        lines.order_id,
        lines.sequence
),

hand_overs as (
    select
        source,
        order_id,
        sequence,
        received_at,
        1 as headers,
        0 as line_sets
    from headers

    union all

    select
        source,
        order_id,
        sequence,
        received_at,
        0 as headers,
        1 as line_sets
    from line_sets

    union all

    select
        line_sets.source,
        line_sets.order_id,
        cast(null as bigint) as sequence,
        rated_late.rated_at as received_at,
        0 as headers,
        0 as line_sets
    from line_sets
    inner join rated_late on line_sets.currency = rated_late.currency

    union all

    select
        headers.source,
        headers.order_id,
        cast(null as bigint) as sequence,
        rated_late.rated_at as received_at,
        0 as headers,
        0 as line_sets
    from headers
    inner join rated_late on headers.currency = rated_late.currency

    union all

    select
        source,
        order_id,
        cast(null as bigint) as sequence,
        listed_at as received_at,
        0 as headers,
        0 as line_sets
    from listings
),

-- Nearly every order came once and whole. Of the others each instant at which something came makes a version: the
-- header and the lines of the latest delivery, by its number, of those that had come.
redelivered as (
    select
        source,
        order_id,
        min(sequence) as first_sequence,
        sum(line_sets) > 1 as has_other_lines
    from hand_overs
    group by
        source,
        order_id
    having sum(headers) > 1 or sum(line_sets) > 1 or min(received_at) <> max(received_at)
),

instants as (
    select
        hand_overs.source,
        hand_overs.order_id,
        hand_overs.received_at,
        min(redelivered.first_sequence) as first_sequence,
        sum(hand_overs.headers + hand_overs.line_sets) < count(*) as is_judged_anew,
        min(case when hand_overs.headers + hand_overs.line_sets > 0 then hand_overs.received_at end) as delivered_at
    from hand_overs
    inner join redelivered
        on hand_overs.source = redelivered.source and hand_overs.order_id = redelivered.order_id
    group by
        hand_overs.source,
        hand_overs.order_id,
        hand_overs.received_at
),

spans as (
    select
        *,
        min(delivered_at) over (partition by source, order_id) as first_received_at
    from instants
),

-- What the lines of a delivery say, whatever their order.
line_contents as (
    select
        lines.source,
        lines.order_id,
        lines.sequence,
        sum({{ column_hash([
            "lines.line_number", "lines.product_id", "lines.quantity", "lines.unit_price", "lines.discount", "lines.tax",
            "lines.is_goods", "lines.is_cancellation", "lines.is_adjustment", "lines.occurred_at",
        ]) }}) as content
    from {{ ref("int_delivered_lines") }} as lines
    inner join redelivered
        on
            lines.source = redelivered.source
            and lines.order_id = redelivered.order_id
            and redelivered.has_other_lines
    {% if is_incremental() %}
    where lines.sequence >= {{ first }}
    {% endif %}
    group by
        lines.source,
        lines.order_id,
        lines.sequence
),

headers_in_force as (
    select
        spans.received_at as span_received_at,
        headers.*
    from spans
    inner join headers
        on
            spans.source = headers.source
            and spans.order_id = headers.order_id
            and headers.received_at <= spans.received_at
    qualify row_number() over (
        partition by spans.source, spans.order_id, spans.received_at
        order by headers.sequence desc, headers.row_number desc
    ) = 1
),

lines_in_force as (
    select
        spans.received_at as span_received_at,
        line_sets.*
    from spans
    inner join line_sets
        on
            spans.source = line_sets.source
            and spans.order_id = line_sets.order_id
            and line_sets.received_at <= spans.received_at
    qualify row_number() over (
        partition by spans.source, spans.order_id, spans.received_at
        order by line_sets.sequence desc
    ) = 1
),

told as (
    {%- set columns %}
        headers.sequence as header_sequence,
        line_sets.sequence as line_sequence,
        line_sets.first_row,
        line_sets.may_repeat_numbers,
        coalesce(line_sets.customer_ref, headers.customer_ref) as customer_ref,
        coalesce(headers.email, line_sets.email) as email,
        headers.phone,
        headers.status,
        coalesce(line_sets.currency, headers.currency) as currency,
        headers.country_code,
        headers.channel,
        headers.coupon,
        headers.discount,
        headers.price_includes_tax,
        headers.is_cancellation,
        -- The loader sees one table at a time; header and lines are compared here.
        coalesce(
            line_sets.customer_ref <> line_sets.other_customer_ref
            or line_sets.customer_ref <> headers.customer_ref
            or line_sets.currency <> line_sets.other_currency
            or line_sets.currency <> headers.currency,
            false
        ) as is_contradictory,
        headers.accepts_marketing,
        coalesce(line_sets.occurred_at, headers.ordered_at) as ordered_at
    {%- endset %}
    {%- set contents = [
        "line_sets.customer_ref", "line_sets.other_customer_ref", "line_sets.email", "line_sets.currency",
        "line_sets.other_currency", "headers.customer_ref", "headers.email", "headers.phone", "headers.status",
        "headers.currency", "headers.country_code", "headers.channel", "headers.coupon", "headers.discount",
        "headers.price_includes_tax", "headers.is_cancellation", "headers.accepts_marketing", "headers.ordered_at",
        "headers.order_id is null", "coalesce(line_contents.content, line_sets.sequence)",
    ] %}
    select
        spans.source,
        spans.order_id,
        {{- columns }},
        spans.first_sequence,
        {{ column_hash(contents) }} as content,
        spans.is_judged_anew,
        spans.first_received_at,
        spans.received_at
    from spans
    left join headers_in_force as headers
        on
            spans.source = headers.source
            and spans.order_id = headers.order_id
            and spans.received_at = headers.span_received_at
    left join lines_in_force as line_sets
        on
            spans.source = line_sets.source
            and spans.order_id = line_sets.order_id
            and spans.received_at = line_sets.span_received_at
    left join line_contents
        on
            line_sets.source = line_contents.source
            and line_sets.order_id = line_contents.order_id
            and line_sets.sequence = line_contents.sequence
    where headers.order_id is not null or line_sets.order_id is not null
),

-- What is told again unchanged is no other version.
compared as (
    select
        *,
        lag(content) over (partition by source, order_id order by received_at) as previous_content
    from told
),

paired as (
    select
        coalesce(line_sets.source, headers.source) as source,
        coalesce(line_sets.order_id, headers.order_id) as order_id,
        {{- columns }},
        least(line_sets.sequence, headers.sequence) as first_sequence,
        cast(null as bigint) as content,
        true as is_judged_anew,
        coalesce(line_sets.received_at, headers.received_at) as first_received_at,
        coalesce(line_sets.received_at, headers.received_at) as received_at,
        cast(null as bigint) as previous_content,
        cast(null as timestamp) as superseded_at
    from line_sets
    full outer join headers on line_sets.source = headers.source and line_sets.order_id = headers.order_id
    left join redelivered
        on
            coalesce(line_sets.source, headers.source) = redelivered.source
            and coalesce(line_sets.order_id, headers.order_id) = redelivered.order_id
    where redelivered.order_id is null

    union all

    select
        *,
        lead(received_at) over (partition by source, order_id order by received_at) as superseded_at
    from compared
    where previous_content is null or content <> previous_content or is_judged_anew
),

-- A version that was replaced before it would have counted never did.
documents as (
    select
        paired.source,
        paired.order_id,
        paired.line_sequence * 1099511627776 + paired.first_row as line_set_id,
        paired.header_sequence,
        paired.line_sequence,
        paired.customer_ref,
        paired.email,
        paired.phone,
        paired.status,
        coalesce(paired.currency, clock.currency) as currency,
        paired.country_code,
        case when paired.source = 'pos' then 'store' else coalesce(paired.channel, 'web') end as channel,
        paired.coupon,
        coalesce(paired.discount, 0) as discount,
        coalesce(paired.price_includes_tax, false) as price_includes_tax,
        coalesce(paired.is_cancellation, false) as is_cancellation,
        coalesce(paired.status in ('test', 'fraud', 'cancelled'), false) or paired.is_contradictory as is_void,
        coalesce(paired.may_repeat_numbers, false) as may_repeat_numbers,
        paired.accepts_marketing,
        paired.first_sequence,
        {{ to_local_date("paired.ordered_at") }} as ordered_on,
        paired.ordered_at,
        greatest(paired.first_received_at, paired.ordered_at) as first_known_at,
        greatest(paired.received_at, paired.ordered_at) as known_at,
        paired.superseded_at
    from paired
    cross join clock
    where
        paired.superseded_at is null
        or paired.superseded_at > coalesce(greatest(paired.received_at, paired.ordered_at), paired.received_at)
),

versions as (
    select
        documents.source,
        documents.order_id,
        documents.line_set_id,
        documents.header_sequence,
        documents.line_sequence,
        case
            when documents.customer_ref is not null
                then {{ identifier_id("shop", "customer_ref", "documents.customer_ref") }}
            when documents.email is not null then {{ identifier_id("any", "email", "documents.email") }}
            when documents.phone is not null then {{ identifier_id("any", "phone", "documents.phone") }}
        end as identifier_id,
        documents.customer_ref,

        documents.email,
        documents.phone,
        documents.status,
        documents.currency,
        documents.country_code,
        documents.channel,
        documents.coupon,

        documents.discount,
        documents.price_includes_tax,
        documents.is_cancellation,
        documents.is_void,
        documents.may_repeat_numbers,
        documents.accepts_marketing,

        documents.first_sequence,

        documents.ordered_on,

        documents.ordered_at,
        documents.first_known_at,
        documents.known_at,
        documents.superseded_at,
        rate_changes.known_at as rates_known_at
    from documents
    left join rate_changes
        on
            documents.currency = rate_changes.currency
            and documents.known_at >= rate_changes.known_at
            and documents.known_at < rate_changes.superseded_at
)

select * from versions
