{#- Who is no person, told by the user agent. -#}

{% macro is_bot(user_agent) -%}
    {#- Crawlers, monitors, headless browsers and HTTP libraries. No user agent says nothing. -#}
    {{ return(adapter.dispatch("is_bot", "mailwright")(user_agent)) }}
{%- endmacro %}

{% macro duckdb__is_bot(user_agent) -%}
    coalesce(regexp_matches(
        lower({{ user_agent }}),
        'bot\b|bot/|crawl|spider|slurp|headless|phantomjs|lighthouse|pingdom|uptime|monitor|preview|facebookexternalhit'
        || '|python-|curl/|wget/|java/|okhttp|go-http-client|scrapy|httpclient|axios/|node-fetch'
    ), false)
{%- endmacro %}

{% macro is_mail_machine(user_agent) -%}
    {#- Mail proxies that fetch pictures before anyone opens the mail, and security scanners that follow every link. -#}
    {{ return(adapter.dispatch("is_mail_machine", "mailwright")(user_agent)) }}
{%- endmacro %}

{% macro duckdb__is_mail_machine(user_agent) -%}
    coalesce(
        -- Apple Mail Privacy Protection gives its browser's name and nothing else.
        trim({{ user_agent }}) = 'Mozilla/5.0'
        or regexp_matches(
            lower({{ user_agent }}),
            'googleimageproxy|yahoomailproxy|yahoo! mail proxy|applemailprivacy|proofpoint|mimecast|barracuda|safelinks'
            || '|ironport|fireeye|symantec|messagelabs|trendmicro|sophos|cloudmark'
        ),
        false
    ) or {{ is_bot(user_agent) }}
{%- endmacro %}
