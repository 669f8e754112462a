with

audience as (

    select * from {{ ref('sendable_audience') }}
    where is_sendable

),

customers as (

    select * from {{ ref('customer_360') }}

),

segments as (

    select
        customer_id,
        {{ sorted_list('segment') }} as segments
    from {{ ref('segment_memberships') }}
    group by customer_id

),

-- Without permission for profiling an address goes with what the person said, and with nothing that was worked out.
final as (

    select
        audience.email,
        audience.customer_id,
        customers.given_name,
        customers.surname,
        customers.country_code,
        customers.language,
        customers.account_type,
        {% for column in [
            'age_band', 'lifecycle_stage', 'rfm_segment', 'value_tier', 'engagement_state', 'churn_band',
            'purchase_30_band', 'purchase_90_band', 'clv_band', 'cluster_name', 'favourite_category', 'best_send_label'
        ] %}
        case when audience.may_profile then customers.{{ column }} end as {{ column }},
        {% endfor %}
        case
            when audience.may_profile and segments.segments is not null then segments.segments
            else {{ empty_list() }}
        end as segments
    from audience
    inner join customers
        on audience.customer_id = customers.customer_id
    left join segments
        on audience.customer_id = segments.customer_id

)

select * from final
