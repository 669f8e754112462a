with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where is_seasonal

)

select * from final
