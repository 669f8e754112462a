with

source as (
    select * from {{ source("lake", "emails") }}
),

renamed as (
    select
        given,
        email,
        problem,
        is_disposable
    from source
)

select * from renamed
