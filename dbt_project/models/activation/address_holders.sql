with

holders as (

    select * from {{ ref('contact_point_holders') }}

),

final as (

    select
        contact_point as email,
        customer_id,
        precedence
    from holders
    where
        contact_point_type = 'email'
        and is_known

)

select * from final
