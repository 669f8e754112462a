with

source as (
    select * from {{ source("identity", "links") }}
),

renamed as (
    select
        run,
        record_l,
        record_r,

        agreed,

        match_weight,
        match_probability
    from source
)

select * from renamed
