with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        sessions_14 >= 1
        and not is_engaged_by_mail

)

select * from final
