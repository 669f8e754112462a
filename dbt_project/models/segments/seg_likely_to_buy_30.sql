with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where purchase_30_score > {{ var('high_purchase_chance') }}

)

select * from final
