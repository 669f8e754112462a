with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        sessions_90 between 1 and 2
        and orders_180 = 0

)

select * from final
