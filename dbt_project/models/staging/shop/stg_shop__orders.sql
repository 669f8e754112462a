with

source as (
    {{ accepted_deliveries("shop", "orders") }}
),

renamed as (
    select
        source.order_id,
        nullif(trim(source.customer_ref), '') as customer_ref,
        source.delivery_id,
        source.row_number,

        {{ parsed_email("emails", "source.email") }} as email,
        {{ email_problem("emails", "source.email") }} as email_problem,
        {{ parsed_phone("phones", "source.phone", "countries.calling_code", "countries.trunk_prefix") }} as phone,
        {{ phone_problem(
            "phones", "source.phone", "countries.calling_code", "countries.trunk_prefix"
        ) }} as phone_problem,
        {{ category("statuses", "source.status") }} as status,
        upper(trim(source.currency)) as currency,
        country_names.country_code,
        {{ category("channels", "source.channel") }} as channel,
        {{ text("source.coupon") }} as coupon,

        coalesce(source.discount, 0) as discount,
        coalesce(source.shipping, 0) as shipping,
        source.sequence,

        coalesce(source.price_includes_tax, false) as price_includes_tax,
        source.accepts_marketing,
        coalesce(source.is_cancellation, false) as is_cancellation,

        source.ordered_at,
        source.received_at,
        source.known_at
    from source
    left join {{ ref("country_names") }} as country_names
        on {{ country_key("source.country") }} = country_names.name_key
    left join {{ ref("countries") }} as countries on country_names.country_code = countries.country_code
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
    left join {{ source("lake", "phones") }} as phones
        on
            trim(source.phone) = phones.given
            and coalesce(country_names.country_code, '') = phones.country_code
    left join {{ ref("category_values") }} as statuses
        on statuses.field = 'order_status' and {{ category_key("source.status") }} = statuses.given
    left join {{ ref("category_values") }} as channels
        on channels.field = 'order_channel' and {{ category_key("source.channel") }} = channels.given
)

select * from renamed
