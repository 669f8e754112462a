with

orders as (

    select * from {{ ref('int_order_versions') }}
    where customer_id is not null

),

dates as (

    select
        customer_id,
        ordered_on,
        min(known_at) as known_at,
        {{ dbt.bool_or('superseded_at is not null or reversed_known_at is not null') }} as has_changed
    from orders
    group by
        customer_id,
        ordered_on

),

sequenced as (

    select
        customer_id,
        ordered_on,
        lag(ordered_on) over (partition by customer_id order by ordered_on) as previous_on,
        has_changed or coalesce(
            known_at < lag(known_at) over (partition by customer_id order by ordered_on), false
        ) as is_out_of_order,
        known_at,
        lead(known_at) over (partition by customer_id order by ordered_on) as next_known_at
    from dates

),

final as (

    select
        customer_id,
        ordered_on,
        previous_on,
        not max(is_out_of_order) over (partition by customer_id) as is_regular,
        known_at,
        next_known_at
    from sequenced

)

select * from final
