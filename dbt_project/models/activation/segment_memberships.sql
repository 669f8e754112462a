with

customers as (

    select customer_id from {{ ref('dim_customers') }}

),

members as (

    {% for segment in segment_models() %}
    select
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        '{{ segment.removeprefix("seg_") }}' as segment
    from {{ ref(segment) }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

-- A segment is a set: whatever repeats in its table, or names nobody, neither adds nor harms.
final as (

    select distinct
        members.customer_id,
        members.segment
    from members
    inner join customers
        on members.customer_id = customers.customer_id

)

select * from final
