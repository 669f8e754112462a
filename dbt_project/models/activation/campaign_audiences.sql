with

memberships as (

    select * from {{ ref('segment_memberships') }}

),

campaigns as (

    {% for campaign, segment, priority in campaign_segments() %}
    select
        '{{ campaign | replace("'", "''") }}' as campaign,
        '{{ segment | replace("'", "''") }}' as segment,
        {{ priority }} as priority
    union all
    {% endfor %}
    select
        cast(null as {{ dbt.type_string() }}) as campaign,
        cast(null as {{ dbt.type_string() }}) as segment,
        0 as priority
    where false

),

-- Of the segments that a customer is in, the first that the campaign names: nobody is written to twice in one campaign.
ranked as (

    select
        campaigns.campaign,
        memberships.customer_id,
        campaigns.segment,
        campaigns.priority,
        row_number() over (
            partition by campaigns.campaign, memberships.customer_id
            order by campaigns.priority
        ) as place
    from campaigns
    inner join memberships
        on campaigns.segment = memberships.segment

),

final as (

    select
        campaign,
        customer_id,
        segment,
        priority
    from ranked
    where place = 1

)

select * from final
