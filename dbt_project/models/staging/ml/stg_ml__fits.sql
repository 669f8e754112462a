with

source as (
    select * from {{ source("state", "fits") }}
),

renamed as (
    select
        fit_version,
        metric,
        account_type,
        k,
        value,
        fit_as_of
    from source
)

select * from renamed
