with

source as (
    {{ accepted_rows("reference", "postal_codes") }}
),

renamed as (
    select
        upper(trim(country_code)) as country_code,
        upper({{ text("postal_code") }}) as postal_code,

        {{ text("place") }} as place,
        {{ text("state") }} as region,

        known_at
    from source
)

select * from renamed
