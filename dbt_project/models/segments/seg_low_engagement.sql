with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where click_rate < {{ var('low_click_rate') }}

)

select * from final
