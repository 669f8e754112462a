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

{%- set conditions = {
    'matched': 'true',
    'has_contact_point': 'has_contact_point',
    'of_age': 'not is_known_minor',
    'consented': 'is_consented',
    'policy_met': 'is_permitted',
    'not_suppressed': 'not is_suppressed',
} -%}
{%- set steps = conditions.keys() | list + ['one_per_address', 'sendable'] %}

left_over as (

    select
        {% set so_far = [] -%}
        {%- for step, condition in conditions.items() -%}
        {%- do so_far.append(condition) -%}
        sum(case when {{ so_far | join(' and ') }} then customers else 0 end) as {{ step }},
        {% endfor -%}
        sum(case when is_matched and {{ so_far | join(' and ') }} then 1 else 0 end) as one_per_address,
        sum(case when is_sendable then 1 else 0 end) as sendable
    from audience

),

steps as (

    {% for step in steps %}
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
