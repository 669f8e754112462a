with

source as (
    {{ accepted_deliveries("pos", "sales") }}
),

renamed as (
    select
        source.sale_id,
        source.line_number,
        source.store_id,
        nullif(trim(source.customer_ref), '') as customer_ref,
        {{ product_key("source.product_id") }} as product_id,
        source.delivery_id,
        source.row_number,

        {{ parsed_email("emails", "source.email") }} as email,
        {{ email_problem("emails", "source.email") }} as email_problem,
        source.description,
        upper(trim(source.currency)) as currency,

        source.quantity,
        source.unit_price,
        coalesce(source.discount, 0) as discount,
        source.sequence,

        source.is_goods,

        source.sold_at,
        source.received_at,
        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.email) = emails.given
)

select * from renamed
