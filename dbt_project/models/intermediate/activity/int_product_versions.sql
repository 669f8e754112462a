{{ config(materialized="view") }}

with

-- Two spellings of one stock code are one product; the later row is right.
delivered as (
    select
        product_id,
        category,
        is_goods,
        known_at,
        min(known_at) over (
            partition by product_id
            order by sequence, row_number
            rows between 1 following and unbounded following
        ) as superseded_at
    from {{ ref("stg_shop__products") }}
),

compared as (
    select
        product_id,
        category,
        is_goods,
        known_at,
        coalesce(
            category is not distinct from lag(category) over (partition by product_id order by known_at)
            and is_goods = lag(is_goods) over (partition by product_id order by known_at),
            false
        ) as is_repeat
    from delivered
    where superseded_at is null or superseded_at > known_at
),

versions as (
    select
        product_id,
        category,
        is_goods,
        known_at,
        lead(known_at) over (partition by product_id order by known_at) as superseded_at
    from compared
    where not is_repeat
)

select * from versions
