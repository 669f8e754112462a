with

affinities as (

    select * from {{ ref('customer_category_affinities') }}

),

final as (

    {{ category_fans('affinities', ['Kitchen and dining', 'Kitchen', 'Dining']) }}

)

select * from final
