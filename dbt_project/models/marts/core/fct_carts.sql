with

stays as (
    select * from {{ ref("int_cart_stays") }}
),

-- A cart is as it was left last.
carts as (
    select
        stays.cart_key,
        stays.customer_id,
        stays.identifier_id,
        stays.cart_id,
        stays.order_key,

        case stays.step when 3 then 'payment' when 2 then 'checkout' else 'cart' end as step,
        case
            when stays.ordered_at is not null then 'ordered'
            when stays.units <= 0 then 'emptied'
            when stays.idle_at <= {{ clock_as_of() }} then 'abandoned'
            else 'open'
        end as fate,

        stays.units,
        stays.amount_base,

        {{ to_local_date("stays.started_at") }} as started_on,

        stays.started_at,
        stays.left_at as last_touched_at,
        case
            when
                stays.units > 0
                and stays.idle_at <= {{ clock_as_of() }}
                and (stays.ordered_at is null or stays.ordered_at > stays.idle_at)
                then stays.idle_at
        end as abandoned_at,
        stays.ordered_at,
        stays.known_at
    from stays
    where stays.resumed_at is null
)

select * from carts
