{#-
    One way of writing each kind of value, so that equal things are equal. A value that can't be one is null.
-#}

{% macro text(value) -%}
    {#- Text in Unicode form NFC, without outer or repeated blanks; nothing is null. -#}
    {{ return(adapter.dispatch("text", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__text(value) -%}
    nullif(trim(regexp_replace(nfc_normalize({{ value }}), '\s+', ' ', 'g')), '')
{%- endmacro %}

{% macro product_key(value) -%}
    {#- Stock codes are compared trimmed and in upper case. -#}
    upper(trim({{ value }}))
{%- endmacro %}

{% macro email_address(value) -%}
    {#- Trimmed, lower case; null without exactly one @ between a name and a domain with a dot. -#}
    {{ return(adapter.dispatch("email_address", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__email_address(value) -%}
    case
        when regexp_full_match(lower(trim({{ value }})), '[^@\s]+@[^@\s.]+(\.[^@\s.]+)+')
            then nfc_normalize(lower(trim({{ value }})))
    end
{%- endmacro %}

{% macro person_name(value) -%}
    {#- NFC, single blanks; a name all in capitals or all in small letters gets capitals at the start of its words. -#}
    {{ return(adapter.dispatch("person_name", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__person_name(value) -%}
    {%- set clean = duckdb__text(value) -%}
    case
        when {{ clean }} in (upper({{ clean }}), lower({{ clean }})) then array_to_string(
            list_transform(
                regexp_extract_all(lower({{ clean }}), '[\p{L}\p{M}]+|[^\p{L}\p{M}]+'),
                lambda word: upper(word[1:1]) || word[2:]
            ),
            ''
        )
        else {{ clean }}
    end
{%- endmacro %}

{% macro name_key(value) -%}
    {#- A name for comparison: small letters without accents, blanks or signs. -#}
    {{ return(adapter.dispatch("name_key", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__name_key(value) -%}
    nullif(regexp_replace(lower(strip_accents({{ value }})), '[^\p{L}]', '', 'g'), '')
{%- endmacro %}

{% macro country_key(value) -%}
    {#- A country's name or code as the seed `country_names` spells it. -#}
    {{ return(adapter.dispatch("country_key", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__country_key(value) -%}
    regexp_replace(upper(strip_accents({{ value }})), '[^A-Z]', '', 'g')
{%- endmacro %}

{% macro phone_e164(value, calling_code, trunk_prefix) -%}
    {#-
        E.164 (`+442079460000`), or null if it can't be told or is of impossible length.

        An international number begins with + or 00; any other is national, and needs the country it belongs to: it
        loses its trunk prefix and gains the calling code. A zero in brackets and an extension are left out.
    -#}
    {{ return(adapter.dispatch("phone_e164", "mailwright")(value, calling_code, trunk_prefix)) }}
{%- endmacro %}

{% macro duckdb__phone_e164(value, calling_code, trunk_prefix) -%}
    {%- set kept -%}
        regexp_replace(regexp_replace({{ value }}, '\(0\)|(?i)\s*(x|ext\.?|extension)\s*\d+\s*$', '', 'g'), '[^0-9+]', '', 'g')
    {%- endset -%}
    nullif(regexp_extract(
        case
            when {{ kept }} like '+%' then {{ kept }}
            when {{ kept }} like '00%' then '+' || substr({{ kept }}, 3)
            when {{ calling_code }} = '1' and {{ kept }} like '011%' then '+' || substr({{ kept }}, 4)
            when {{ trunk_prefix }} <> '' and starts_with({{ kept }}, {{ trunk_prefix }})
                then '+' || {{ calling_code }} || substr({{ kept }}, length({{ trunk_prefix }}) + 1)
            else '+' || {{ calling_code }} || {{ kept }}
        end,
        '^\+[1-9]\d{7,14}$'
    ), '')
{%- endmacro %}

{% macro gender(value) -%}
    case
        when lower(trim({{ value }})) in ('f', 'female', 'w', 'woman', 'mrs', 'ms', 'miss', 'frau', 'weiblich') then 'female'
        when lower(trim({{ value }})) in ('m', 'male', 'man', 'mr', 'herr', 'maennlich', 'männlich') then 'male'
        when lower(trim({{ value }})) in ('d', 'x', 'nb', 'other', 'diverse', 'divers', 'non-binary', 'nonbinary') then 'other'
    end
{%- endmacro %}

{% macro age_band(birthday, on_date) -%}
    {#- Whole years between a birthday and a date, in the bands that providers of demographics use. -#}
    {%- set years -%}
        (
            extract(year from {{ on_date }}) - extract(year from {{ birthday }})
            - case
                when extract(month from {{ on_date }}) * 100 + extract(day from {{ on_date }})
                    < extract(month from {{ birthday }}) * 100 + extract(day from {{ birthday }}) then 1
                else 0
            end
        )
    {%- endset -%}
    case
        when {{ years }} < 0 or {{ years }} > 120 then null
        when {{ years }} < 18 then 'under 18'
        when {{ years }} < 25 then '18-24'
        when {{ years }} < 35 then '25-34'
        when {{ years }} < 45 then '35-44'
        when {{ years }} < 55 then '45-54'
        when {{ years }} < 65 then '55-64'
        when {{ years }} >= 65 then '65+'
    end
{%- endmacro %}

{% macro split_name(value, part) -%}
    {#- One part of a whole name: `Given Names Surname`, or `Surname, Given Names`. -#}
    {{ return(adapter.dispatch("split_name", "mailwright")(value, part)) }}
{%- endmacro %}

{% macro duckdb__split_name(value, part) -%}
    {%- set clean = duckdb__text(value) -%}
    case
        when contains({{ clean }}, ',') then trim(split_part({{ clean }}, ',', {{ 2 if part == "given" else 1 }}))
        {%- if part == "given" %}
        else nullif(regexp_replace({{ clean }}, '\s*\S+$', ''), '')
        {%- else %}
        else regexp_extract({{ clean }}, '\S+$')
        {%- endif %}
    end
{%- endmacro %}
