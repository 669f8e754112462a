with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        sessions_90 >= {{ var('frequent_sessions') }}
        and orders_365 <= 1

)

select * from final
