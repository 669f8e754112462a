with

contacts as (
    select
        gender,
        gender_given,
        language,
        language_given,
        account_type,
        count(*) as row_count
    from {{ ref("stg_crm__contacts") }}
    group by
        gender,
        gender_given,
        language,
        language_given,
        account_type
),

orders as (
    select
        status,
        channel,
        sum(row_count) as row_count
    from {{ ref("int_order_categories") }}
    group by
        status,
        channel
),

given as (
    select
        'gender' as field,
        gender_given as given,
        row_count
    from contacts
    where gender is null

    union all

    select
        'gender' as field,
        gender_given as given,
        1 as row_count
    from {{ ref("stg_third_party__demographics") }}
    where gender is null

    union all

    select
        'language' as field,
        language_given as given,
        row_count
    from contacts
    where language is null

    union all

    select
        'account_type' as field,
        account_type as given,
        row_count
    from contacts

    union all

    select
        'order_status' as field,
        status as given,
        row_count
    from orders

    union all

    select
        'order_channel' as field,
        channel as given,
        row_count
    from orders
),

known as (
    select distinct
        field,
        value
    from {{ ref("category_values") }}
),

unknown as (
    select
        given.field,
        given.given,
        cast(sum(given.row_count) as bigint) as row_count
    from given
    left join known
        on
            given.field = known.field
            and given.given = known.value
    where given.given is not null and known.value is null
    group by
        given.field,
        given.given
)

select * from unknown
