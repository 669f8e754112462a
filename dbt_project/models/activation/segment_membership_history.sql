with

changes as (

    select * from {{ ref('stg_releases__membership_changes') }}

),

-- Releases follow each other by number: several may be of one as_of.
followed as (

    select
        customer_id,
        segment,
        change,
        release as entered_release,
        cause as entered_cause,
        as_of as entered_at,
        lead(release) over consecutive as left_release,
        lead(cause) over consecutive as left_cause,
        lead(as_of) over consecutive as left_at
    from changes
    window consecutive as (
        partition by customer_id, segment
        order by release
    )

),

final as (

    select
        customer_id,
        segment,
        entered_cause,
        left_cause,
        entered_release,
        left_release,
        entered_at,
        left_at
    from followed
    where change = 'entered'

)

select * from final
