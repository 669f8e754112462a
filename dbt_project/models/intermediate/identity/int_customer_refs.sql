with recursive

sightings as (
    select * from {{ ref("int_sightings") }}
),

contacts as (
    select distinct
        customer_ref,
        email,
        {{ name_key("surname") }} as surname_key,
        {{ name_key("given_name") }} as given_key
    from {{ ref("stg_crm__contacts") }}
    where is_current and customer_ref is not null
),

refs as (
    select
        customer_ref,
        min(first_known_at) as first_known_at
    from sightings
    where customer_ref is not null
    group by customer_ref
),

-- Two numbers of the shop are one person if address and surname agree and the given names don't contradict each other:
-- a family that shares an address stays apart.
same_person as (
    select distinct
        one.customer_ref,
        other.customer_ref as other_customer_ref
    from contacts as one
    inner join contacts as other
        on
            one.email = other.email
            and one.surname_key = other.surname_key
            and one.customer_ref <> other.customer_ref
    where
        one.given_key is null
        or other.given_key is null
        or starts_with(one.given_key, other.given_key)
        or starts_with(other.given_key, one.given_key)
),

reached as (
    select
        customer_ref,
        customer_ref as other_customer_ref
    from same_person

    union

    select
        reached.customer_ref,
        same_person.other_customer_ref
    from reached
    inner join same_person on reached.other_customer_ref = same_person.customer_ref
),

-- A merge keeps the older number.
founders as (
    select
        reached.customer_ref,
        refs.customer_ref as founding_ref
    from reached
    inner join refs on reached.other_customer_ref = refs.customer_ref
    qualify row_number() over (
        partition by reached.customer_ref order by refs.first_known_at, refs.customer_ref
    ) = 1
),

founded as (
    select
        refs.customer_ref,
        'shop|customer_ref|' || coalesce(founders.founding_ref, refs.customer_ref) as founding_identifier,
        refs.first_known_at
    from refs
    left join founders on refs.customer_ref = founders.customer_ref
)

select * from founded
