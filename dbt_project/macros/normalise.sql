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

{% macro parsed_email(emails, given) -%}
    {#-
        The address of a value as given: as the library read it, if `emails` (stg_lake__emails or its source, joined on
        the trimmed value) knows it; by SQL alone for what was never parsed.
    -#}
    case when {{ emails }}.given is not null then {{ emails }}.email else {{ email_address(given) }} end
{%- endmacro %}

{% macro parsed_phone(phones, given, calling_code="null", trunk_prefix="null") -%}
    {#- The number of a value as given, likewise; `phones` is joined on the trimmed value and the country's code. -#}
    case
        when {{ phones }}.given is not null then {{ phones }}.phone
        else {{ phone_e164(given, calling_code, trunk_prefix) }}
    end
{%- endmacro %}

{% macro email_problem(emails, given) -%}
    {#- Why a value that is given is no address; null where it is one, or nothing is given. -#}
    case
        when {{ emails }}.given is not null then {{ emails }}.problem
        when trim({{ given }}) <> '' and {{ email_address(given) }} is null then 'not_an_address'
    end
{%- endmacro %}

{% macro phone_problem(phones, given, calling_code="null", trunk_prefix="null") -%}
    {#- Why a value that is given is no number, or (`not_assigned`) is one that no plan has assigned yet. -#}
    case
        when {{ phones }}.given is not null then {{ phones }}.problem
        when trim({{ given }}) <> '' and ({{ phone_e164(given, calling_code, trunk_prefix) }}) is null then 'not_a_number'
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
    {#- A name for comparison: small letters without title, accents, blanks or signs. -#}
    {{ return(adapter.dispatch("name_key", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__name_key(value) -%}
    {%- set titles = "mr|mrs|ms|miss|mx|dr|prof|professor|rev|sir|dame|herr|frau|dipl|ing|mag|mme|mlle|sra|srta|dott|sig" -%}
    {%- set honours = "jr|sr|ii|iii|esq|phd|md|obe|mbe" -%}
    nullif(
        regexp_replace(
            regexp_replace(
                lower(strip_accents(trim({{ value }}))), '^(({{ titles }})(\.-?\s*|\s+))+|[,\s]+({{ honours }})\.?$', '', 'g'
            ),
            '[^\p{L}]', '', 'g'
        ),
        ''
    )
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

{% macro place_key(value) -%}
    {#- A town or region for comparison: small letters without accents, blanks or signs, and without `Cedex 01`. -#}
    {{ return(adapter.dispatch("place_key", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__place_key(value) -%}
    nullif(regexp_replace(lower(strip_accents({{ value }})), '[^\p{L}]|cedex.*', '', 'g'), '')
{%- endmacro %}

{% macro are_similar_places(one, other) -%}
    {#- Whether two place keys may mean one place: a slip of the pen, or one with an addition to its name. -#}
    {{ return(adapter.dispatch("are_similar_places", "mailwright")(one, other)) }}
{%- endmacro %}

{% macro duckdb__are_similar_places(one, other) -%}
    (
        (length({{ one }}) >= 4 and contains({{ other }}, {{ one }}))
        or (length({{ other }}) >= 4 and contains({{ one }}, {{ other }}))
        or jaro_winkler_similarity({{ one }}, {{ other }}) >= 0.9
    )
{%- endmacro %}

{% macro postal_code_key(value) -%}
    {#- A postal code without blanks and signs, in capitals. -#}
    {{ return(adapter.dispatch("postal_code_key", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__postal_code_key(value) -%}
    regexp_replace(upper({{ value }}), '[^A-Z0-9]', '', 'g')
{%- endmacro %}

{% macro postal_code_parts(value, pattern) -%}
    {#- The two groups of a country's pattern with a bar between them, or null where the code does not have its form. -#}
    {{ return(adapter.dispatch("postal_code_parts", "mailwright")(value, pattern)) }}
{%- endmacro %}

{% macro duckdb__postal_code_parts(value, pattern) -%}
    nullif(regexp_extract(regexp_replace({{ value }}, {{ pattern }}, '\1|\2'), '^[^|]*[|][^|]*$'), '')
{%- endmacro %}

{% macro category_key(value) -%}
    {#- A category as the seed `category_values` spells what is given: small letters, single blanks. -#}
    lower({{ text(value) }})
{%- endmacro %}

{% macro category(values, given) -%}
    {#- One of the category's own words where the map, joined as `values`, knows what is given, else as given. -#}
    coalesce({{ values }}.value, {{ category_key(given) }})
{%- endmacro %}

{% macro language_tag(value) -%}
    {#- A BCP 47 tag of language and region (en-GB) in its usual letters; null if the value is none. -#}
    {{ return(adapter.dispatch("language_tag", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__language_tag(value) -%}
    {%- set tag = "replace(trim(" ~ value ~ "), '_', '-')" -%}
    case
        when regexp_full_match({{ tag }}, '[A-Za-z]{2,3}') then lower({{ tag }})
        when regexp_full_match({{ tag }}, '[A-Za-z]{2,3}-([A-Za-z]{2}|[0-9]{3})')
            then lower(split_part({{ tag }}, '-', 1)) || '-' || upper(split_part({{ tag }}, '-', 2))
        when regexp_full_match({{ tag }}, '[A-Za-z]{2,3}-[A-Za-z]{4}(-([A-Za-z]{2}|[0-9]{3}))?')
            then concat_ws(
                '-',
                lower(split_part({{ tag }}, '-', 1)),
                upper(split_part({{ tag }}, '-', 2)[1:1]) || lower(split_part({{ tag }}, '-', 2)[2:]),
                nullif(upper(split_part({{ tag }}, '-', 3)), '')
            )
    end
{%- endmacro %}

{% macro birthday_problem(birthday, as_of) -%}
    {#- Why a birthday is not used: nobody is born after today, and hardly anyone lives for more than 120 years. -#}
    case
        when {{ birthday }} < cast('1900-01-01' as date) then 'before_1900'
        when {{ birthday }} > cast({{ as_of }} as date) then 'in_future'
        when {{ dbt.dateadd("year", 121, birthday) }} <= {{ as_of }} then 'over_120'
    end
{%- endmacro %}

{% macro plausible_birthday(birthday, as_of) -%}
    case when {{ birthday_problem(birthday, as_of) }} is null then {{ birthday }} end
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
