with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where churn_score > {{ var('high_churn_risk') }}

)

select * from final
