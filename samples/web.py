"""Web behaviour in the Segment e-commerce vocabulary. All of it simulated, around the orders that are there.

Needs `persons`, `identities`, `clicks`, `nudges`, `categories`, `shelves`, `tracked_orders` (order_key, order_id, person
or null for a guest, ordered_at) and `order_goods` (order_key, rank from 1, product_id, quantity, price).

A visit belongs to a device. Before someone signs in on it, it only has an anonymous id.
"""

from __future__ import annotations

from samples.draws import Block
from samples.scope import FIRST_TASTE, SECOND_TASTE, Scope

BROWSERS = (
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:8.0) Gecko/20100101 Firefox/8.0",
    "Mozilla/5.0 (Windows NT 5.1) AppleWebKit/535.2 (KHTML, like Gecko) Chrome/15.0.874.121 Safari/535.2",
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_7_2) AppleWebKit/534.51.22 (KHTML, like Gecko) Version/5.1.1 Safari/534.51.22",
    "Mozilla/5.0 (iPad; CPU OS 5_0 like Mac OS X) AppleWebKit/534.46 (KHTML, like Gecko) Version/5.1 Mobile/9A334 Safari/7534.48.3",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 5_0 like Mac OS X) AppleWebKit/534.46 (KHTML, like Gecko) Version/5.1 Mobile/9A334",
)
BOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "ExampleSpider/1.0 (+https://example.com/spider)",
    "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome",
)
REPEATED_SHARE = 0.065
"""Share of event ids that arrive twice; a quarter of the repeats carry a slightly later time."""

# Keys: a person has up to 8192 visits, a visit up to 256 events. Orders and strangers have number ranges of their own.
_GUESTS, _STRANGERS, _BOTS = 10_000_000_000, 4_000_000_000, 5_000_000_000
_STRANGERS_PER_BLOCK = 1_000_000


def make(block: Block, scope: Scope) -> None:
    """Write web.events."""
    _visits(block, scope)
    _order_visits(block)
    block.write("web", "events", _events(scope))


def _visits(block: Block, scope: Scope) -> None:
    people = block.count("persons")
    strangers = round(people * scope.anonymous_per_person)
    bots = max(1, round(people * scope.bots_per_person))
    first_stranger = _STRANGERS + block.number * _STRANGERS_PER_BLOCK
    first_bot = _BOTS + block.number * _STRANGERS_PER_BLOCK
    block.connection.execute(
        f"""
        create table visits as
        with planned as (
            select
                person,
                unnest(range(visits)) as ordinal,
                greatest(born_at::date - 10, {scope.start_sql}::date) as from_on,
                active_until::date as until_on
            from persons
        ),
        browsing as (
            select
                person, ordinal, person * 8192 + ordinal as visit_key, null::varchar as campaign_name,
                from_on + floor(draw(person * 8192 + ordinal, 'day') * greatest(until_on - from_on, 1))::integer
                    + to_seconds(25200 + floor(27000 * (
                        draw(person * 8192 + ordinal, 'hour') + draw(person * 8192 + ordinal, 'second')
                    ))::bigint) as started_at
            from planned
        ),
        from_mail as (
            select
                person, 2048 + number as ordinal, person * 8192 + 2048 + number as visit_key, campaign_id as campaign_name,
                clicked_at + interval 3 second as started_at
            from clicks
            where draw(person * 8192 + number, 'arrives') < 0.9
        ),
        nudged as (
            select person, 3072 + number, person * 8192 + 3072 + number, null, nudged_at
            from nudges
            where has_visit
        ),
        strangers as (
            select
                person, 0, person * 8192, null,
                {scope.start_sql} + to_seconds(86400 * below(person, 'day', datediff('day', {scope.start_sql}, {scope.end_sql}))
                    + 25200 + below(person, 'second', 54000))
            from (select unnest(range({first_stranger}, {first_stranger + strangers})) as person)
        ),
        together as (
            select * from browsing
            union all
            select * from from_mail
            union all
            select * from nudged
            union all
            select * from strangers
        ),
        shaped as (
            select
                *,
                person * 4 + case when draw(visit_key, 'device') < 0.7 then 0 else 1 + below(visit_key, 'which device', 2) end as device,
                1 + least(9, floor(-ln(1 - draw(visit_key, 'views')) * 2.2)::integer) as views,
                case when draw(visit_key, 'adds') < 0.14 then 1 + below(visit_key, 'how many', 2)::integer else 0 end as wanted,
                draw(visit_key, 'search') < 0.12 as has_search
            from together
            where started_at < {scope.end_sql} - interval 1 hour
        ),
        signed as (
            select person, min(ordered_at) as signed_at from tracked_orders where person is not null group by person
        )
        select
            shaped.*,
            least(wanted, views) as adds,
            wanted > 0 and draw(visit_key, 'checkout') < 0.4 as has_checkout,
            case when started_at > signed_at and draw(visit_key, 'signed in') < 0.6 then customer_ref end as user_id,
            case when draw(visit_key, 'identify') < 0.1 and started_at > born_at then email end as identified_email,
            coalesce(first_taste, 0) as first_taste,
            coalesce(second_taste, 0) as second_taste
        from shaped
        left join identities using (person)
        left join signed using (person);

        create table bot_visits as
        select
            person,
            person * 8192 as visit_key,
            40 + below(person, 'pages', 120) as pages,
            {scope.start_sql} + to_seconds(floor(
                draw(person, 'when') * datediff('second', {scope.start_sql}, {scope.end_sql} - interval 1 day)
            )::bigint) as started_at
        from (select unnest(range({first_bot}, {first_bot + bots})) as person);
        """
    )


def _order_visits(block: Block) -> None:
    block.connection.execute(
        f"""
        create table order_visits as
        with numbered as (
            select
                *,
                coalesce(person, {_GUESTS} + order_key) as visitor,
                row_number() over (partition by person order by ordered_at, order_key) - 1 as ordinal
            from tracked_orders
        ),
        sized as (
            select order_key, count(*)::integer as goods from order_goods where rank <= 5 group by order_key
        )
        select
            numbered.order_key,
            order_id,
            person,
            ordered_at,
            case when person is null then visitor * 8192 else visitor * 8192 + 4096 + ordinal end as visit_key,
            visitor * 4 + case when draw(order_key, 'device') < 0.75 then 0 else 1 + below(order_key, 'which device', 2) end as device,
            least(goods, 2 + below(order_key, 'views', 4))::integer as views,
            least(goods, 1 + below(order_key, 'adds', 4))::integer as adds,
            customer_ref,
            email,
            ordinal > 0 and draw(order_key, 'signed in') < 0.6 as is_signed_in
        from numbered
        inner join sized using (order_key)
        left join identities using (person)
        where person is null or ordinal < 4096
        """
    )


def _events(scope: Scope) -> str:
    browsers = ", ".join(f"'{browser}'" for browser in BROWSERS)
    bots = ", ".join(f"'{bot}'" for bot in BOTS)
    return f"""
        with steps as (
            select
                *,
                unnest(range(1 + views + adds + has_checkout::integer + (identified_email is not null)::integer)) as step
            from visits
        ),
        picks as (
            select
                *,
                visit_key * 256 + case when step > views then step - views else step end as pick_key,
                step between 1 and views + adds as has_product
            from steps
        ),
        themed as (
            select
                *,
                case
                    when draw(pick_key, 'theme') < {FIRST_TASTE} then first_taste
                    when draw(pick_key, 'theme') < {FIRST_TASTE + SECOND_TASTE} then second_taste
                    else 0
                end as theme
            from picks
        ),
        browsed as (
            select
                visit_key, step, device, campaign_name, user_id,
                case when step = 0 then 'page' when step > views + adds + has_checkout::integer then 'identify' else 'track' end as event_type,
                case
                    when step = 0 and has_search then 'Products Searched'
                    when step = 0 then 'Page Viewed'
                    when step <= views then 'Product Viewed'
                    when step <= views + adds then 'Product Added'
                    when step <= views + adds + has_checkout::integer then 'Checkout Started'
                end as event_name,
                started_at + to_seconds(step * 35 + below(visit_key * 256 + step, 'pause', 30)) as occurred_at,
                case when has_product then shelves.product_id end as product_id,
                case when step > views and has_product then 1 end as quantity,
                case when has_product then shelves.price end as price,
                case when step > views and adds > 0 and event_type <> 'identify' then 'sim-cart-' || visit_key end as cart_id,
                null::varchar as order_id,
                case when step = 0 and has_search then lower(categories.category) end as query,
                case when event_type = 'identify' then identified_email end as email
            from themed
            left join categories on categories.category_number = theme and has_search and step = 0
            inner join shelves on shelves.shelf = shelf(theme, draw(pick_key, 'product'))
        ),
        bought as (
            -- Backwards from the order: it is completed at its own instant, and every step lies before it.
            select
                visit_key, step, device, null::varchar as campaign_name,
                case when is_signed_in or step > views + adds then customer_ref end as user_id,
                case when step = 0 then 'page' when step = views + adds + 1 then 'identify' else 'track' end as event_type,
                case
                    when step = 0 then 'Page Viewed'
                    when step <= views then 'Product Viewed'
                    when step <= views + adds then 'Product Added'
                    when step = views + adds + 2 then 'Checkout Started'
                    when step = views + adds + 3 then 'Order Completed'
                end as event_name,
                ordered_at - to_seconds(
                    (views + adds + 3 - step) * 40
                    - case when step = views + adds + 3 then 0 else below(visit_key * 256 + step, 'pause', 35) end
                ) as occurred_at,
                order_goods.product_id,
                case when step > views then order_goods.quantity end as quantity,
                order_goods.price,
                case when step > views and event_type <> 'identify' then 'sim-cart-' || visit_key end as cart_id,
                case when step = views + adds + 3 then order_id end as order_id,
                null::varchar as query,
                case when event_type = 'identify' and draw(stepped.order_key, 'email given') < 0.6 then email end as email
            from (select *, unnest(range(views + adds + 4)) as step from order_visits) as stepped
            left join order_goods
                on order_goods.order_key = stepped.order_key
                and order_goods.rank = case
                    when step between 1 and views then step
                    when step between views + 1 and views + adds then step - views
                end
            -- A guest is never identified: the order's own email is all there is.
            where not (person is null and step = views + adds + 1)
        ),
        crawled as (
            select
                visit_key, step, person * 4 as device, null::varchar as campaign_name, null::varchar as user_id,
                case when step % 3 = 0 then 'page' else 'track' end as event_type,
                case when step % 3 = 0 then 'Page Viewed' else 'Product Viewed' end as event_name,
                started_at + to_seconds(step) as occurred_at,
                case when step % 3 > 0 then shelves.product_id end as product_id,
                null as quantity,
                case when step % 3 > 0 then shelves.price end as price,
                null::varchar as cart_id, null::varchar as order_id, null::varchar as query, null::varchar as email
            from (select *, unnest(range(pages)) as step from bot_visits) as stepped
            inner join shelves on shelves.shelf = shelf(0, draw(visit_key * 256 + step, 'product'))
        ),
        everything as (
            select *, false as is_bot from browsed
            union all
            select *, false from bought
            union all
            select *, true from crawled
        ),
        arrived as (
            select
                *,
                visit_key * 256 + step as event_key,
                unnest(range(case when draw(visit_key * 256 + step, 'repeated') < {REPEATED_SHARE} then 2 else 1 end)) as again
            from everything
        )
        select
            'sim-w-' || visit_key || '-' || step as event_id,
            event_type,
            event_name,
            occurred_at + case when again > 0 and draw(event_key, 'late repeat') < 0.25 then interval 2 second else interval 0 second end
                as occurred_at,
            'sim-a-' || device as anonymous_id,
            user_id,
            email,
            case when not is_bot and draw(device, 'session') < 0.75 then 'sim-s-' || visit_key end as session_id,
            case
                when event_name = 'Product Viewed' then 'https://shop.example.com/p/' || product_id
                when event_name in ('Page Viewed', 'Products Searched') then 'https://shop.example.com/'
                when event_name in ('Checkout Started', 'Order Completed') then 'https://shop.example.com/checkout'
            end as page_url,
            case
                when step > 0 then null
                when campaign_name is not null then null
                when draw(visit_key, 'referrer') < 0.3 then 'https://search.example.com/'
            end as referrer,
            case
                when is_bot then [{bots}][1 + below(device, 'bot', {len(BOTS)})]
                else [{browsers}][1 + below(device, 'browser', {len(BROWSERS)})]
            end as user_agent,
            case when campaign_name is not null then 'newsletter' end as campaign_source,
            case when campaign_name is not null then 'email' end as campaign_medium,
            campaign_name,
            product_id,
            quantity,
            price,
            case when price is not null then '{scope.currency}' end as currency,
            cart_id,
            order_id,
            query,
            case
                when is_bot or draw(device, 'asked') < 0.1 then null
                when draw(device, 'consent') < 0.62 then 'functional,analytics,marketing'
                when draw(device, 'consent') < 0.95 then 'functional,analytics'
                else 'functional'
            end as tracking_consent,
            '{{"simulated":true}}' as properties
        from arrived
    """
