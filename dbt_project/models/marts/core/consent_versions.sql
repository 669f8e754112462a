with

consents as (
    select * from {{ ref("fct_consents") }}
    where customer_id is not null
),

-- What orders said until they were delivered again.
former as (
    select
        granted.*,
        identifiers.customer_id,
        identifiers.first_known_at as attributed_at
    from {{ ref("int_checkout_consents") }} as granted
    inner join {{ ref("int_identifiers") }} as identifiers
        on {{ identifier_id("any", "email", "granted.email") }} = identifiers.identifier_id
    where granted.superseded_at < {{ clock_as_of() }}
),

versions as (
    select
        customer_id,

        channel,
        purpose,
        state,
        suppression,

        captured_at,
        expires_at,
        greatest(known_at, attributed_at) as known_at,
        cast(null as timestamp) as superseded_at
    from consents

    union all

    select
        customer_id,

        'email' as channel,
        'marketing' as purpose,
        'granted' as state,
        cast(null as varchar) as suppression,

        ordered_at as captured_at,
        cast(null as timestamp) as expires_at,
        greatest(known_at, attributed_at) as known_at,
        superseded_at
    from former
)

select * from versions
