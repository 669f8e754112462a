with

sightings as (
    select * from {{ ref("int_sightings") }}
),

customer_refs as (
    select * from {{ ref("int_customer_refs") }}
),

first_known as (
    select
        contact_id,
        min(first_known_at) as first_known_at
    from sightings
    where contact_id is not null
    group by contact_id
),

contacts as (
    select
        contacts.contact_id,
        contacts.email,
        {{ name_key("contacts.surname") }} as surname_key,
        {{ name_key("contacts.given_name") }} as given_key,
        customer_refs.founding_identifier,
        first_known.first_known_at
    from {{ ref("stg_crm__contacts") }} as contacts
    inner join first_known on contacts.contact_id = first_known.contact_id
    left join customer_refs on contacts.customer_ref = customer_refs.customer_ref
    where contacts.is_current
),

numbered as (
    select
        contact_id,
        founding_identifier
    from contacts
    where founding_identifier is not null
),

-- Without a number of its own, a contact is whoever shares its address and surname; best the one of the same given
-- name.
namesakes as (
    select
        contacts.contact_id,
        namesake.founding_identifier
    from contacts
    inner join contacts as namesake
        on
            contacts.email = namesake.email
            and contacts.surname_key = namesake.surname_key
            and namesake.founding_identifier is not null
    where contacts.founding_identifier is null
    qualify row_number() over (
        partition by contacts.contact_id
        order by
            case
                when starts_with(contacts.given_key, namesake.given_key) then 0
                when starts_with(namesake.given_key, contacts.given_key) then 0
                else 1
            end,
            namesake.first_known_at,
            namesake.founding_identifier
    ) = 1
),

-- Failing that, the one shop customer who gave this address at a checkout, if nobody of another surname has it too.
checkout_addresses as (
    select
        sightings.email,
        min(customer_refs.founding_identifier) as founding_identifier
    from sightings
    inner join customer_refs on sightings.customer_ref = customer_refs.customer_ref
    where sightings.email is not null
    group by sightings.email
    having count(distinct customer_refs.founding_identifier) = 1
),

single_surname_addresses as (
    select email
    from contacts
    where email is not null
    group by email
    having count(distinct surname_key) = 1
),

groups as (
    select
        contacts.contact_id,
        coalesce(
            checkout_addresses.founding_identifier,
            'crm|contact_id|' || first_value(contacts.contact_id) over (
                partition by contacts.email, contacts.surname_key
                order by contacts.first_known_at, contacts.contact_id
            )
        ) as founding_identifier
    from contacts
    left join single_surname_addresses on contacts.email = single_surname_addresses.email
    left join checkout_addresses on single_surname_addresses.email = checkout_addresses.email
    where
        contacts.founding_identifier is null
        and contacts.email is not null
        and contacts.surname_key is not null
        and contacts.contact_id not in (select namesakes.contact_id from namesakes)
),

alone as (
    select
        contact_id,
        'crm|contact_id|' || contact_id as founding_identifier
    from contacts
    where founding_identifier is null and email is null
),

-- An address without a surname is whoever owns the address, which is decided with all the other addresses.
nameless as (
    select
        contact_id,
        cast(null as varchar) as founding_identifier
    from contacts
    where founding_identifier is null and email is not null and surname_key is null
),

persons as (
    select * from numbered
    union all
    select * from namesakes
    union all
    select * from groups
    union all
    select * from alone
    union all
    select * from nameless
),

with_address as (
    select
        persons.contact_id,
        contacts.email,
        persons.founding_identifier,
        contacts.first_known_at
    from persons
    inner join contacts on persons.contact_id = contacts.contact_id
)

select * from with_address
