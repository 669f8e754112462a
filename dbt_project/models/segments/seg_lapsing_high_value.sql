with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        lifecycle_stage = 'lapsing'
        and m_score >= 4

)

select * from final
