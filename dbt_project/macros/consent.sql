{#- Words of consent that several models share. -#}

{% macro is_grant(state) -%}
    {{ state }} in ('granted', 'confirmed')
{%- endmacro %}

{% macro is_explicit_consent(lawful_basis) -%}
    {#- Said by the person; everything else is implied by what they did. -#}
    coalesce({{ lawful_basis }}, 'consent') = 'consent'
{%- endmacro %}

{% macro carefulness(state) -%}
    {#- Of two things said at once the more careful one counts: the smaller number. -#}
    case {{ state }} when 'withdrawn' then 1 when 'expired' then 2 when 'pending' then 3 else 4 end
{%- endmacro %}

{% macro gravity(suppression_type) -%}
    {#- Kinds of refusal in order, the gravest first. -#}
    case {{ suppression_type }}
        when 'erasure' then 1
        when 'legal' then 2
        when 'complaint' then 3
        when 'objection' then 4
        when 'unsubscribe' then 5
        else 6
    end
{%- endmacro %}

{% macro states_at(as_of) -%}
    {#-
        The state of every contact point, channel and purpose at an instant, as rows of `consent_states`. Whether a refusal
        that was said later binds all the same is told by `suppressed_addresses`, as it looks at no clock.
    -#}
    select *
    from {{ ref("consent_states") }}
    where valid_from_at <= {{ as_of }} and (valid_to_at is null or valid_to_at > {{ as_of }})
{%- endmacro %}

{% macro strictest_policy(alias) -%}
    {#- The columns of a policy over several countries, the strictest of each kind. -#}
    {{ dbt.bool_or(alias ~ ".needs_double_opt_in") }} as needs_double_opt_in,
    not {{ dbt.bool_or("not " ~ alias ~ ".allows_soft_opt_in") }} as allows_soft_opt_in,
    min({{ alias }}.implied_consent_days) as implied_consent_days,
    min({{ alias }}.profiling_basis) as profiling_basis,
    max({{ alias }}.minimum_age) as minimum_age
{%- endmacro %}

{% macro full_years(birthday, on_date) -%}
    (
        extract(year from {{ on_date }}) - extract(year from {{ birthday }})
        - case
            when extract(month from {{ on_date }}) * 100 + extract(day from {{ on_date }})
                < extract(month from {{ birthday }}) * 100 + extract(day from {{ birthday }}) then 1
            else 0
        end
    )
{%- endmacro %}

{% macro allows_analytics(tracking_consent) -%}
    {#-
        What a web event says about the consent to analytics: true, false, or null where it does not say. It is a list of
        the categories that are allowed (Segment: the keys of `context.consent.categoryPreferences` that are true), or one
        word for all or none.
    -#}
    {{ return(adapter.dispatch("allows_analytics", "mailwright")(tracking_consent)) }}
{%- endmacro %}

{% macro duckdb__allows_analytics(tracking_consent) -%}
    regexp_matches(
        nullif(lower(trim({{ tracking_consent }})), ''), '(^|[,;\s])(analytics|statistics|all|true|yes|granted)($|[,;\s])'
    )
{%- endmacro %}
