with

stays as (
    select * from {{ ref("int_cart_stays") }}
),

abandonments as (
    select
        stays.cart_key,
        stays.customer_id,

        case stays.step when 3 then 'payment' when 2 then 'checkout' else 'cart' end as step,

        stays.units,
        stays.amount_base,

        stays.resumed_at is null and stays.ordered_at is null as is_open,

        stays.left_at,
        stays.idle_at as abandoned_at,
        stays.resumed_at,
        stays.ordered_at,
        stays.known_at
    from stays
    where
        stays.units > 0
        and stays.idle_at <= {{ clock_as_of() }}
        and (stays.ordered_at is null or stays.ordered_at > stays.idle_at)
)

select * from abandonments
