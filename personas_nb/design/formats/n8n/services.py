"""The services that n8n's nodes speak to: what they are called, where their web API is, which connector is theirs.

The addresses are the services' own, never the file's: a credential of ours goes to no host that a stranger named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from personas_nb.design.formats.n8n.text import humanised, listed
from personas_nb.entities.design import SuggestedConnector


class Service(NamedTuple):
    """A service: ``url`` is its API's address, empty where each customer has an own one."""

    label: str
    connector: str
    url: str = ""


_GOOGLE = "https://www.googleapis.com"
_GRAPH = "https://graph.microsoft.com/v1.0"
_ROWS = f"""
slack|Slack|slack|https://slack.com/api
telegram|Telegram|telegram|https://api.telegram.org
discord|Discord|discord|https://discord.com/api/v10
mattermost|Mattermost|mattermost|
microsoftTeams|Microsoft Teams|microsoft|{_GRAPH}
microsoftOutlook|Outlook|microsoft|{_GRAPH}
microsoftOneDrive|OneDrive|microsoft|{_GRAPH}
microsoftExcel|Excel online|microsoft|{_GRAPH}
microsoftToDo|Microsoft To Do|microsoft|{_GRAPH}
microsoftSharePoint|SharePoint|microsoft|{_GRAPH}
whatsApp|WhatsApp|whatsapp|https://graph.facebook.com
facebookGraphApi|Facebook|facebook|https://graph.facebook.com
twilio|Twilio|twilio|https://api.twilio.com
matrix|Matrix|matrix|
rocketchat|Rocket.Chat|rocketchat|
zulip|Zulip|zulip|
pushbullet|Pushbullet|pushbullet|https://api.pushbullet.com
pushover|Pushover|pushover|https://api.pushover.net
gotify|Gotify|gotify|
signl4|SIGNL4|signl4|https://connect.signl4.com
pagerDuty|PagerDuty|pagerduty|https://api.pagerduty.com
googleSheets|Google Sheets|google|https://sheets.googleapis.com
googleDrive|Google Drive|google|{_GOOGLE}/drive/v3
googleDocs|Google Docs|google|https://docs.googleapis.com
googleSlides|Google Slides|google|https://slides.googleapis.com
googleCalendar|Google Calendar|google|{_GOOGLE}/calendar/v3
googleTasks|Google Tasks|google|https://tasks.googleapis.com
googleContacts|Google Contacts|google|https://people.googleapis.com
googleTranslate|Google Translate|google|https://translation.googleapis.com
googleAnalytics|Google Analytics|google|https://analyticsdata.googleapis.com
googleBigQuery|BigQuery|google|https://bigquery.googleapis.com
googleCloudStorage|Google Cloud Storage|google|https://storage.googleapis.com
googleChat|Google Chat|google|https://chat.googleapis.com
googlePerspective|Google Perspective|google|https://commentanalyzer.googleapis.com
youTube|YouTube|google|{_GOOGLE}/youtube/v3
notion|Notion|notion|https://api.notion.com
airtable|Airtable|airtable|https://api.airtable.com
baserow|Baserow|baserow|https://api.baserow.io
nocoDb|NocoDB|nocodb|
seaTable|SeaTable|seatable|
grist|Grist|grist|https://docs.getgrist.com
coda|Coda|coda|https://coda.io
supabase|Supabase|supabase|
dropbox|Dropbox|dropbox|https://api.dropboxapi.com
box|Box|box|https://api.box.com
nextCloud|Nextcloud|nextcloud|
github|GitHub|github|https://api.github.com
gitlab|GitLab|gitlab|https://gitlab.com
gitea|Gitea|gitea|
bitbucket|Bitbucket|bitbucket|https://api.bitbucket.org
jenkins|Jenkins|jenkins|
jira|Jira|jira|
confluence|Confluence|confluence|
linear|Linear|linear|https://api.linear.app
trello|Trello|trello|https://api.trello.com
asana|Asana|asana|https://app.asana.com
clickUp|ClickUp|clickup|https://api.clickup.com
mondayCom|monday.com|monday|https://api.monday.com
todoist|Todoist|todoist|https://api.todoist.com
hubspot|HubSpot|hubspot|https://api.hubapi.com
salesforce|Salesforce|salesforce|
pipedrive|Pipedrive|pipedrive|https://api.pipedrive.com
zohoCrm|Zoho CRM|zoho|https://www.zohoapis.com
odoo|Odoo|odoo|
erpNext|ERPNext|erpnext|
zendesk|Zendesk|zendesk|
freshdesk|Freshdesk|freshdesk|
intercom|Intercom|intercom|https://api.intercom.io
helpScout|Help Scout|helpscout|https://api.helpscout.net
serviceNow|ServiceNow|servicenow|
stripe|Stripe|stripe|https://api.stripe.com
payPal|PayPal|paypal|https://api-m.paypal.com
shopify|Shopify|shopify|
wooCommerce|WooCommerce|woocommerce|
gumroad|Gumroad|gumroad|https://api.gumroad.com
mailchimp|Mailchimp|mailchimp|
sendGrid|SendGrid|sendgrid|https://api.sendgrid.com
mailgun|Mailgun|mailgun|https://api.mailgun.net
mailjet|Mailjet|mailjet|https://api.mailjet.com
brevo|Brevo|brevo|https://api.brevo.com
sendInBlue|Brevo|brevo|https://api.brevo.com
activeCampaign|ActiveCampaign|activecampaign|
convertKit|Kit|convertkit|https://api.convertkit.com
klicktipp|KlickTipp|klicktipp|https://api.klicktipp.com
wordpress|WordPress|wordpress|
ghost|Ghost|ghost|
webflow|Webflow|webflow|https://api.webflow.com
strapi|Strapi|strapi|
contentful|Contentful|contentful|https://cdn.contentful.com
storyblok|Storyblok|storyblok|https://api.storyblok.com
medium|Medium|medium|https://api.medium.com
twitter|X|twitter|https://api.x.com
linkedIn|LinkedIn|linkedin|https://api.linkedin.com
reddit|Reddit|reddit|https://oauth.reddit.com
bluesky|Bluesky|bluesky|https://bsky.social
spotify|Spotify|spotify|https://api.spotify.com
typeform|Typeform|typeform|https://api.typeform.com
calendly|Calendly|calendly|https://api.calendly.com
zoom|Zoom|zoom|https://api.zoom.us
bitly|Bitly|bitly|https://api-ssl.bitly.com
deepL|DeepL|deepl|https://api-free.deepl.com
elevenLabs|ElevenLabs|elevenlabs|https://api.elevenlabs.io
perplexity|Perplexity|perplexity|https://api.perplexity.ai
openAi|OpenAI|openai|https://api.openai.com
mistralAi|Mistral|mistral|https://api.mistral.ai
evolutionApi|Evolution API|evolution|
apify|Apify|apify|https://api.apify.com
elasticsearch|Elasticsearch|elasticsearch|
grafana|Grafana|grafana|
homeAssistant|Home Assistant|home_assistant|
n8n|n8n|n8n|
openWeatherMap|OpenWeatherMap|openweathermap|https://api.openweathermap.org
nasa|NASA|nasa|https://api.nasa.gov
serpApi|SerpAPI|serpapi|https://serpapi.com
wolframAlpha|Wolfram Alpha|wolfram|https://api.wolframalpha.com
clockify|Clockify|clockify|https://api.clockify.me
toggl|Toggl|toggl|https://api.track.toggl.com
harvest|Harvest|harvest|https://api.harvestapp.com
"""
_OPEN = {
    "hackerNews": Service("Hacker News", "", "https://hacker-news.firebaseio.com/v0"),
    "quickChart": Service("QuickChart", "", "https://quickchart.io"),
    "wikipedia": Service("Wikipedia", "", "https://en.wikipedia.org/w/api.php"),
    "coinGecko": Service("CoinGecko", "", "https://api.coingecko.com"),
}
SERVICES: dict[str, Service] = _OPEN | {
    kind: Service(label, connector, url)
    for kind, label, connector, url in (row.split("|") for row in _ROWS.strip().splitlines())
}

DATABASES = {
    "postgres": "PostgreSQL", "mySql": "MySQL", "microsoftSql": "Microsoft SQL Server", "mongoDb": "MongoDB",
    "redis": "Redis", "snowflake": "Snowflake", "crateDb": "CrateDB", "questDb": "QuestDB",
    "timescaleDb": "TimescaleDB", "oracleDatabase": "Oracle", "sqlite": "SQLite", "dynamoDb": "DynamoDB",
}  # fmt: skip

# What a credential's type is called without its endings, where that is not the connector's name.
_CREDENTIALS = {
    "gmail": "gmail", "imap": "gmail", "smtp": "smtp", "email_send": "smtp", "google_palm": "google",
    "http_header": "http_bearer", "http_query": "http_bearer", "http_basic": "http_bearer",
    "http_digest": "http_bearer", "http_custom": "http_bearer", "http_bearer": "http_bearer", "http": "http_bearer",
    "o": "http_bearer", "o_auth1": "http_bearer", "o_auth2": "http_bearer", "klick_tipp": "klicktipp",
    "whats_app": "whatsapp", "whats_app_trigger": "whatsapp", "serp": "serpapi", "notion": "notion",
    "postgres": "postgres", "github": "github", "eleven_labs": "elevenlabs", "click_up": "clickup",
}  # fmt: skip
# The shipped connectors, with the fields that a person fills in.
_SHIPPED = {
    "gmail": ("user", "app_password"),
    "slack": ("bot_token", "channel"),
    "telegram": ("bot_token", "chat_id"),
    "smtp": ("host", "port", "user", "password"),
    "http_bearer": ("base_url", "token"),
    "github": ("token",),
    "postgres": ("host", "port", "database", "user", "password"),
}
_ENDINGS = re.compile(
    r"(?:_(?:trigger|service_account|o_?auth\d?|api|token|access|personal|credentials|auth))+$"
)
_BY_CONNECTOR = {service.connector: service for service in SERVICES.values() if service.connector}


def service_of(kind: str) -> Service | None:
    """The service of a node's kind, also as a tool of an agent or as a trigger.

    >>> service_of("googleSheetsTool").label, service_of("slackTrigger").connector
    ('Google Sheets', 'slack')
    """
    return SERVICES.get(kind) or SERVICES.get(re.sub(r"(?:Tool|Trigger|HitlTool|V\d)$", "", kind))


def connector_of(credential_type: str) -> str:
    """The connector that a credential of n8n becomes.

    >>> connector_of("slackOAuth2Api"), connector_of("googleSheetsOAuth2Api"), connector_of("httpHeaderAuth")
    ('slack', 'google', 'http_bearer')
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", credential_type).replace("OAuth", "o_auth").lower()
    stem = _ENDINGS.sub("", snake)
    if known := _CREDENTIALS.get(stem):
        return known
    if stem.startswith(("google_", "you_tube")):
        return "google"
    if stem.startswith("microsoft_"):
        return "microsoft"
    joined = stem.replace("_", "")
    found = next((name for name in _BY_CONNECTOR if joined in (name, name.replace("_", ""))), stem)
    return found if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", found) else "http_bearer"


def is_oauth(credential_type: str) -> bool:
    """Whether n8n signed in with OAuth 2, and renewed its token by itself."""
    return "oauth2" in credential_type.lower() and connector_of(credential_type) != "gmail"


def suggested(connector: str, services: Sequence[Service] = (), *, oauth: bool = False) -> SuggestedConnector:
    """A connector as a design suggests it, with how to make it where it is none of the shipped ones.

    Its credential goes to the addresses of ``services`` only: each is a field of its own.
    """
    if shipped := _SHIPPED.get(connector):
        add = f"`%persona credentials add {connector} {connector}`"
        setup = add + (_HOSTS if connector == "gmail" else "")
        return SuggestedConnector(name=connector, credential_fields=shipped, setup_instructions=setup)
    known = [service for service in services if service.connector == connector]
    if not known and connector in _BY_CONNECTOR:
        known = [_BY_CONNECTOR[connector]]
    origins = list(dict.fromkeys("/".join(service.url.split("/")[:3]) for service in known if service.url))
    keys = ["base_url", *(f"base_url_{number}" for number in range(2, len(origins) + 1))]
    made = [
        f'{{"key": "{key}", "default": "{origin}"}}' if origin else f'{{"key": "{key}"}}'
        for key, origin in zip(keys, origins or [""], strict=True)
    ]
    fields = ", ".join([*made, '{"key": "token"}'])
    add = f'studio.connectors.add("{connector}", fields=[{fields}], tools=["http_request"])'
    label = listed(list(dict.fromkeys(service.label for service in known))) or humanised(connector)
    token = (
        "n8n signed in with OAuth 2: give it a token that lasts, such as a service account's. "
        if oauth
        else ""
    )
    return SuggestedConnector(
        name=connector,
        oauth_type="oauth2" if oauth else None,
        credential_fields=(*keys, "token"),
        setup_instructions=f"{token}Make the connector for {label} first: `{add}`; then "
        f"`%persona credentials add {connector} {connector}`.",
    )


_HOSTS = "; for a mailbox elsewhere, its IMAP and SMTP hosts are fields too"
