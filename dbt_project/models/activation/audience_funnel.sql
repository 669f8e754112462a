with

audience as (

    select * from {{ ref('sendable_audience') }}

),

holders as (

    select * from {{ ref('address_holders') }}

),

without_address as (

    select count(*) as customers
    from {{ ref('dim_customers') }} as customers
    left join holders
        on customers.customer_id = holders.customer_id
    where holders.customer_id is null

),

left_over as (

    select
        sum(customers) as matched,
        sum(case when has_contact_point then customers else 0 end) as has_contact_point,
        sum(case when has_contact_point and is_consented then customers else 0 end) as consented,
        sum(
            case when has_contact_point and is_consented and not is_suppressed then customers else 0 end
        ) as not_suppressed,
        sum(
            case when is_matched and has_contact_point and is_consented and not is_suppressed then 1 else 0 end
        ) as one_per_address,
        sum(case when is_sendable then 1 else 0 end) as sendable
    from audience

),

steps as (

    {% for step in ['matched', 'has_contact_point', 'consented', 'not_suppressed', 'one_per_address', 'sendable'] %}
    select
        {{ loop.index }} as step_number,
        '{{ step }}' as step,
        coalesce({{ step }}, 0) {% if step == 'matched' %}+ without_address.customers{% endif %} as addresses
    from left_over
    cross join without_address
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

final as (

    select
        cast(step_number as integer) as step_number,
        step,
        cast(addresses as bigint) as addresses
    from steps

)

select * from final
