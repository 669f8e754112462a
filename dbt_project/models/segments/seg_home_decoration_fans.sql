with

affinities as (

    select * from {{ ref('customer_category_affinities') }}

),

final as (

    {{ category_fans('affinities', ['Home decoration']) }}

)

select * from final
