with

affinities as (

    select * from {{ ref('customer_category_affinities') }}

),

final as (

    {{ category_fans('affinities', ['Garden']) }}

)

select * from final
