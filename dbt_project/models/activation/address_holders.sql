with

customers as (

    select
        customer_id,
        email,
        first_known_at
    from {{ ref('dim_customers') }}

),

identifiers as (

    select
        customer_id,
        identifier as email
    from {{ ref('customer_identifiers') }}
    where identifier_type = 'email'

),

consents as (

    select
        customer_id,
        contact_point as email
    from {{ ref('fct_consents') }}
    where
        contact_point is not null
        and contact_point_type = 'email'

),

-- As far as anything says whose an address is: its owner, whose profile shows it, whose consent was about it.
evidence as (

    select
        email,
        customer_id,
        1 as closeness
    from identifiers

    union all

    select
        email,
        customer_id,
        2 as closeness
    from customers
    where email is not null

    union all

    select
        email,
        customer_id,
        3 as closeness
    from consents

),

holders as (

    select
        evidence.email,
        customers.customer_id,
        customers.first_known_at,
        min(evidence.closeness) as closeness
    from evidence
    inner join customers
        on evidence.customer_id = customers.customer_id
    group by
        evidence.email,
        customers.customer_id,
        customers.first_known_at

),

final as (

    select
        email,
        customer_id,
        cast(
            row_number() over (partition by email order by closeness, first_known_at, customer_id) as integer
        ) as precedence
    from holders

)

select * from final
