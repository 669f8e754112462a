with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        frequency >= 2
        and is_high_average_order

)

select * from final
