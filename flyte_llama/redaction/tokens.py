"""Tokens with a shape of their own: one detector for each provider's prefix, such as `ghp_…` or `AKIA…`.

The shapes come from the providers' documentation. Ids that grant no access (of an AWS role, of a Twilio
account) are not secrets. Nothing is masked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from flyte_llama.redaction.detector import Detector, DetectorTable
from flyte_llama.redaction.values import is_random, is_token, value_is

# Tokens do not begin inside a word; but in source code they may follow an escape such as `\n`.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_END = r"(?![A-Za-z0-9])"


_has_real_value = value_is(is_token)
_has_random_value = value_is(is_token, is_random)


def _is_webhook(match: re.Match[str]) -> bool:
    return is_token(match["value"].rpartition("/")[2])


def _token(
    name: str, literals: str, shape: str, *, is_real: Callable[[re.Match[str]], bool] = _has_real_value, before: int = 0
) -> Detector:
    pattern = re.compile(_START + shape + _END, re.ASCII)
    return Detector(name, tuple(literal.encode() for literal in literals.split()), pattern, is_real, before=before)


# Every literal is inside or next to a word of 20 or more characters, so only such words need to be searched
# (`detector.long_words`).
PROVIDERS = DetectorTable(
    # clouds; AWS ids are base 32, where the digits 0, 1, 8 and 9 do not occur
    _token("aws_access_key_id", "AKIA ASIA ABIA ACCA", r"A(?:KI|SI|BI|CC)A(?P<value>[A-Z2-7]{16})"),
    _token("aws_access_key_id", "A3T", r"A3T[A-Z0-9](?P<value>[A-Z2-7]{16})", is_real=_has_random_value),
    _token("aws_bedrock_key", "ABSK", r"ABSK(?P<value>[A-Za-z0-9+/]{100,300}={0,2})"),
    _token("aws_bedrock_key", "bedrock-api-key-", r"bedrock-api-key-(?P<value>[A-Za-z0-9+/]{40,4000}={0,2})"),
    _token("alibaba_key_id", "LTAI", r"LTAI(?P<value>[A-Za-z0-9]{12,20})", is_real=_has_random_value),
    _token("yandex_key", "AQVN", r"AQVN(?P<value>[\w-]{35,38})(?![\w-])"),
    _token("yandex_key", "YC", r"YC(?P<value>[\w-]{38})(?![\w-])", is_real=_has_random_value),
    _token("yandex_key", "t1.", r"t1\.(?P<value>[\w-]{20,400}={0,2}\.[\w-]{86}={0,2})"),
    _token("google_api_key", "AIza", r"AIza(?P<value>[\w-]{35})(?![\w-])"),
    _token("google_oauth_secret", "GOCSPX-", r"GOCSPX-(?P<value>[\w-]{28})(?![\w-])"),
    _token("google_oauth_token", "ya29.", r"ya29\.(?P<value>[\w-]{30,512})(?![\w-])"),
    _token("google_oauth_token", "1//0", r"1//0(?P<value>[\w-]{40,120})(?![\w-])"),
    # Azure marks its keys inside: storage and batch, Cosmos DB, DevOps.
    _token(
        "azure_key",
        "+ASt +ABa ACDb",
        r"(?P<value>[A-Za-z0-9+/]{76}(?:\+ASt|\+ABa|ACDb)[A-Za-z0-9+/]{5}[AQgw]==)",
        before=76,
    ),
    _token("azure_key", "AZDO", r"(?P<value>[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4})", before=76),
    _token("azure_key", "JQQJ9", r"(?P<value>[A-Za-z0-9]{52}JQQJ9[A-Za-z0-9]{27})", before=52),
    _token(
        "azure_key",
        "+ASb +AEh +ARm AIoT",
        r"(?P<value>[A-Za-z0-9+/]{33}(?:\+ASb|\+AEh|\+ARm|AIoT)[A-Za-z0-9+/]{5,6}={0,2})",
        before=33,
    ),
    _token("azure_key", "AzFu AzSe AzCa", r"(?P<value>[\w-]{42,44}Az(?:Fu|Se|Ca)[\w-]{5,6}={0,2})", before=42),
    # A signature that opens a container to whoever has the URL.
    _token("azure_key", "sig=", r"(?<=[?&;])sig=(?P<value>[A-Za-z0-9%+/]{40,120}={0,2})"),
    # A client secret: marked inside too.
    Detector(
        "azure_key",
        (b"Q~",),
        re.compile(r"(?<![\w~.-])(?P<value>[\w~.-]{3}\dQ~[\w~.-]{31,34})(?![\w~.-])", re.ASCII),
        _has_real_value,
        before=4,
    ),
    _token("firebase_key", "AAAA", r"AAAA(?P<value>[\w-]{7}:[\w-]{120,160})(?![\w-])"),
    _token("digitalocean_token", "doo_v1_ dop_v1_ dor_v1_", r"do[opr]_v1_(?P<value>[0-9a-f]{64})"),
    _token("databricks_token", "dapi dose", r"(?:dapi|dose)(?P<value>[0-9a-f]{32}(?:-\d)?)"),
    _token("cloudflare_key", "v1.0-", r"v1\.0-(?P<value>[0-9a-f]{24}-[0-9a-f]{146})"),
    _token("heroku_key", "HRKU-", r"HRKU-(?P<value>[\w-]{36,80})"),
    _token("fly_token", "fo1_ fm1a_ fm1r_ fm2_", r"(?:fo1|fm1a|fm1r|fm2)_(?P<value>[A-Za-z0-9+/_-]{40,2000}={0,3})"),
    _token("netlify_token", "nfp_", r"nfp_(?P<value>[A-Za-z0-9]{36})"),
    _token("vercel_token", "vcp_ vci_ vca_ vcr_ vck_", r"vc[piark]_(?P<value>[A-Za-z0-9]{24,64})"),
    _token("cloudflare_key", "cfut_ cfat_ cfk_", r"cf(?:ut|at|k)_(?P<value>[A-Za-z0-9]{40,53})"),
    _token("clickhouse_key", "4b1d", r"4b1d(?P<value>[A-Za-z0-9]{38})", is_real=_has_random_value),
    _token("scalingo_token", "tk-us-", r"tk-us-(?P<value>[\w-]{48})"),
    _token("defined_networking_key", "dnkey-", r"dnkey-(?P<value>[\w=-]{26}-[\w=-]{52})"),
    Detector(
        "softlayer_key",
        (b"layer.com/soap/v3",),
        re.compile(r"softlayer\.com/soap/v3(?:\.1)?/(?P<value>[a-z0-9]{64})(?![A-Za-z0-9])"),
        _has_real_value,
        before=4,
    ),
    _token("neon_key", "napi_", r"napi_(?P<value>[a-z0-9]{64})"),
    _token("render_key", "rnd_", r"rnd_(?P<value>[A-Za-z0-9]{28,40})"),
    _token("supabase_key", "sbp_ sb_secret_", r"sb(?:p|_secret)_(?P<value>[\w-]{31,64})"),
    _token("planetscale_token", "pscale_", r"pscale_(?:tkn|pw|oauth)_(?P<value>[\w.=-]{32,64})"),
    _token("tailscale_key", "tskey-", r"tskey-(?:[a-z]{3,8}-)?(?P<value>[A-Za-z0-9]{8,20}-[A-Za-z0-9]{16,64})"),
    _token("openshift_token", "sha256~", r"sha256~(?P<value>[\w-]{43})(?![\w-])"),
    # code hosts, package registries and builds
    _token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_(?P<value>[A-Za-z0-9]{36,255})"),
    _token("github_token", "github_pat_", r"github_pat_(?P<value>\w{36,255})"),
    _token("gitlab_token", "glpat-", r"glpat-(?P<value>[\w-]{20,255}(?:\.[0-9a-z]{2,16}){0,2})"),
    _token(
        "gitlab_token",
        "gldt- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct-",
        r"gl(?:dt|rt|rtr|cbt|ptt|ft|imt|agent|oas|soat|ffct)-(?P<value>[\w-]{20,255}(?:\.[0-9a-z]{2,16}){0,2})",
    ),
    _token("gitlab_token", "GR1348941", r"GR1348941(?P<value>[\w-]{20})(?![\w-])"),
    _token("bitbucket_token", "ATBB ATCTT3", r"AT(?:BB|CTT3)(?P<value>[\w=-]{28,255})"),
    _token("atlassian_token", "ATATT3 ATSTT3", r"AT[AS]TT3(?P<value>[\w=-]{28,255})"),
    _token("npm_token", "npm_", r"npm_(?P<value>[A-Za-z0-9]{36})"),
    # A macaroon; its first bytes name the index, pypi.org or test.pypi.org.
    _token("pypi_token", "pypi-AgE", r"pypi-(?P<value>AgE[\w-]{50,512})"),
    _token("rubygems_token", "rubygems_", r"rubygems_(?P<value>[0-9a-f]{48})"),
    _token("nuget_key", "oy2", r"oy2(?P<value>[a-z0-9]{43})"),
    _token("crates_token", "cio", r"cio(?P<value>[A-Za-z0-9]{32})", is_real=_has_random_value),
    _token("clojars_token", "CLOJARS_", r"CLOJARS_(?P<value>[0-9a-f]{60})"),
    _token("jfrog_token", "AKCp cmVmdGtu", r"(?:AKCp|cmVmdGtu)(?P<value>[A-Za-z0-9]{48,75})"),
    _token("jfrog_token", "AKC", r"AKC(?P<value>[A-Za-z0-9]{20,80})", is_real=_has_random_value),
    _token("jfrog_token", "AP", r"AP[0-9A-F](?P<value>[A-Za-z0-9]{18,80})", is_real=_has_random_value),
    _token("jfrog_token", "cmVmd", r"cmVmd(?P<value>[A-Za-z0-9]{59})", is_real=_has_random_value),
    _token("sourcegraph_token", "sgp_", r"sgp_(?:[0-9a-fA-F]{16}_|local_)?(?P<value>[0-9a-f]{40})"),
    _token("infracost_token", "ico-", r"ico-(?P<value>[A-Za-z0-9]{32})"),
    _token("harness_key", "pat. sat.", r"[ps]at\.(?P<value>[\w-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20})"),
    _token("docker_token", "dckr_", r"dckr_[po]at_(?P<value>[\w-]{27,64})"),
    _token("circleci_token", "CCIPAT_ CCIPRJ_", r"CCIP(?:AT|RJ)_(?P<value>[A-Za-z0-9_]{40,80})"),
    _token("buildkite_token", "bkua_", r"bkua_(?P<value>[0-9a-f]{40})"),
    _token("pulumi_token", "pul-", r"pul-(?P<value>[0-9a-f]{40})"),
    _token("prefect_key", "pnu_ pnb_", r"pn[ub]_(?P<value>[A-Za-z0-9]{36})"),
    _token("terraform_token", ".atlasv1.", r"(?P<value>[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70})", before=14),
    # models and data
    _token("huggingface_token", "hf_", r"hf_(?P<value>[A-Za-z0-9]{30,64})"),
    _token("huggingface_token", "api_org_", r"api_org_(?P<value>[A-Za-z0-9]{30,64})"),
    _token("anthropic_key", "sk-", r"(?<![\w-])sk-ant-(?P<value>[\w-]{24,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?:proj|svcacct|admin|None)-(?P<value>[\w-]{32,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?:or-v1-|lf-)?(?P<value>[A-Za-z0-9]{32,64})"),
    _token("elevenlabs_key", "sk_", r"sk_(?P<value>[0-9a-f]{48})"),
    _token("groq_key", "gsk_", r"gsk_(?P<value>[A-Za-z0-9]{48,64})"),
    _token("xai_key", "xai-", r"xai-(?P<value>[A-Za-z0-9]{64,100})"),
    _token("perplexity_key", "pplx-", r"pplx-(?P<value>[A-Za-z0-9]{40,64})"),
    _token("replicate_token", "r8_", r"r8_(?P<value>[A-Za-z0-9]{37})"),
    _token("nvidia_key", "nvapi-", r"nvapi-(?P<value>[\w-]{60,80})"),
    _token("langsmith_key", "lsv2_", r"lsv2_(?:pt|sk)_(?P<value>[0-9a-f]{32}_[0-9a-f]{10})"),
    _token("together_key", "tgp_v1_", r"tgp_v1_(?P<value>[\w-]{40,64})"),
    _token("pinecone_key", "pcsk_", r"pcsk_(?P<value>[A-Za-z0-9_]{40,100})"),
    _token("tavily_key", "tvly-", r"tvly-(?P<value>[A-Za-z0-9-]{28,64})"),
    _token("jina_key", "jina_", r"jina_(?P<value>[\w-]{48,80})", is_real=_has_random_value),
    _token("kaggle_token", "KGAT_", r"KGAT_(?P<value>[0-9a-f]{32})"),
    _token("wandb_key", "wandb_v1_", r"wandb_v1_(?P<value>[A-Za-z0-9_]{40,100})"),
    # messages and mail; webhooks of Slack, Discord and Teams
    _token(
        "webhook",
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<value>[\w/+-]{20,120})",
        is_real=_is_webhook,
    ),
    _token("webhook", "webhooks/", r"webhooks/\d{15,21}/(?P<value>[\w-]{40,100})", is_real=_is_webhook),
    _token(
        "webhook",
        "webhookb2/",
        r"webhookb2/(?P<value>[\w@-]{36,80}/IncomingWebhook/[\w/-]{32,120})",
        is_real=_is_webhook,
    ),
    _token("slack_token", "xox", r"xox[abcdeoprs]-(?P<value>[A-Za-z0-9-]{20,255})"),
    _token("slack_token", "xapp-", r"xapp-(?P<value>\d-[A-Za-z0-9-]{20,255})"),
    Detector(
        "telegram_token",
        (b":AA",),
        re.compile(r"(?<=\d{8}):(?P<value>AA[\w-]{32,34})(?![\w-])", re.ASCII),
        _has_real_value,
    ),
    # Its first part is a user's id, a number, in base64.
    Detector(
        "discord_token",
        (b"MT", b"Mj", b"Mz", b"ND", b"NT", b"Nj", b"Nz", b"OD", b"OT"),
        re.compile(r"(?<![\w.-])(?P<value>[\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,45})(?![\w.-])", re.ASCII),
        _has_random_value,
    ),
    _token("discord_token", "mfa.", r"mfa\.(?P<value>[\w-]{80,90})"),
    _token("twilio_key", "SK", r"SK(?P<value>[0-9a-f]{32})"),
    _token("sendgrid_key", "SG.", r"SG\.(?P<value>[\w-]{22}\.[\w-]{43})(?![\w-])"),
    _token("mailgun_key", "key-", r"key-(?P<value>[0-9a-f]{32})"),
    _token("mailchimp_key", "-us", r"(?P<value>[0-9a-f]{32})-us\d{1,2}", before=32),
    _token("brevo_key", "xkeysib- xsmtpsib-", r"x(?:key|smtp)sib-(?P<value>[0-9a-f]{64}-[A-Za-z0-9]{16})"),
    # payments and shops
    _token(
        "stripe_key",
        "sk_live_ rk_live_ sk_test_ rk_test_ sk_prod_ rk_prod_",
        r"[sr]k_(?:live|test|prod)_(?P<value>[A-Za-z0-9]{16,255})",
    ),
    _token("stripe_key", "whsec_", r"whsec_(?P<value>[A-Za-z0-9+/]{32,64}={0,2})"),
    _token("square_token", "sq0atp- sq0csp-", r"sq0(?:atp|csp)-(?P<value>[\w-]{22,43})(?![\w-])"),
    _token("square_token", "EAAA", r"EAAA(?P<value>[\w-]{60})(?![\w-])", is_real=_has_random_value),
    _token("facebook_token", "EAA", r"EAA(?P<value>[A-Za-z0-9]{90,400})", is_real=_has_random_value),
    _token("shopify_token", "shp", r"shp(?:at|ca|pa|ss|tka)_(?P<value>[0-9a-fA-F]{32})"),
    _token("razorpay_key", "rzp_live_", r"rzp_live_(?P<value>[A-Za-z0-9]{14,24})"),
    _token("shippo_token", "shippo_live_ shippo_test_", r"shippo_(?:live|test)_(?P<value>[0-9a-f]{40})"),
    _token("duffel_token", "duffel_live_ duffel_test_", r"duffel_(?:live|test)_(?P<value>[\w-]{43})(?![\w-])"),
    _token("easypost_key", "EZAK EZTK", r"EZ[AT]K(?P<value>[A-Za-z0-9]{54})"),
    _token("flutterwave_key", "FLWSECK- FLWSECK_TEST-", r"FLWSECK(?:_TEST)?-(?P<value>[0-9a-zA-Z]{12,32})"),
    # operations
    _token("vault_token", "hvs. hvb. hvr.", r"hv[sbr]\.(?P<value>[\w-]{24,300})(?![\w-])"),
    # Vault's tokens before version 1.10.
    _token("vault_token", "s.", r"(?<![\w)\]-])s\.(?P<value>[A-Za-z0-9]{24})(?![\w.(-])", is_real=_has_random_value),
    _token(
        "onepassword_key",
        "A3-",
        r"A3-(?P<value>[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3})",
    ),
    _token("doppler_token", "dp.", r"dp\.[a-z]{2,5}\.(?:[\w-]{2,35}\.)?(?P<value>[A-Za-z0-9]{40,44})"),
    _token("onepassword_token", "ops_eyJ", r"ops_(?P<value>eyJ[\w-]{60,4096}={0,2})"),
    _token("age_key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1(?P<value>[02-9AC-HJ-NP-Z]{58})"),
    _token("age_key", "AGE-PLUGIN-", r"AGE-PLUGIN-[A-Z0-9]{2,40}-1(?P<value>[02-9AC-HJ-NP-Z]{20,400})"),
    _token("grafana_token", "glsa_", r"glsa_(?P<value>[A-Za-z0-9]{32}_[0-9A-Fa-f]{8})"),
    _token("grafana_token", "glc_", r"glc_(?P<value>[A-Za-z0-9+/]{32,400}={0,2})"),
    _token("grafana_token", "eyJrIjoi", r"eyJrIjoi(?P<value>[A-Za-z0-9]{60,400}={0,2})"),
    _token("newrelic_key", "NRAK- NRII- NRRA- NRSP-", r"NR(?:AK|II|RA|SP)-(?P<value>[\w-]{27,42})(?![\w-])"),
    _token("newrelic_key", "NRJS-", r"NRJS-(?P<value>[0-9a-f]{19})"),
    _token("newrelic_key", "NRAL", r"(?P<value>[0-9a-f]{36})NRAL", before=36),
    _token("sentry_token", "sntrys_ sntryu_", r"sntry[su]_(?P<value>[A-Za-z0-9+/_=-]{64,1024})"),
    _token("sonarqube_token", "sqp_ sqa_ squ_", r"sq[pau]_(?P<value>[0-9a-f]{40})"),
    _token("dynatrace_token", "dt0c01. dt0s16.", r"dt0[cs]\d\d\.[A-Z0-9]{8,24}\.(?P<value>[A-Z0-9]{64})"),
    _token("octopus_key", "API-", r"API-(?P<value>[A-Z0-9]{25,36})", is_real=_has_random_value),
    # desks and documents
    _token("linear_key", "lin_api_ lin_oauth_", r"lin_(?:api|oauth)_(?P<value>[A-Za-z0-9]{32,64})"),
    _token("airtable_token", "pat", r"pat(?P<value>[A-Za-z0-9]{14}\.[0-9a-f]{64})"),
    _token("notion_token", "ntn_", r"ntn_(?P<value>[A-Za-z0-9]{40,50})"),
    _token("notion_token", "secret_", r"secret_(?P<value>[A-Za-z0-9]{43})"),
    _token("figma_token", "figd_ figo_", r"fig[do]_(?P<value>[\w-]{40,64})"),
    _token("postman_key", "PMAK-", r"PMAK-(?P<value>[0-9a-f]{24}-[0-9a-f]{34})"),
    _token("contentful_token", "CFPAT-", r"CFPAT-(?P<value>[\w-]{43})(?![\w-])"),
    _token("typeform_token", "tfp_", r"tfp_(?P<value>[\w.=-]{40,64})"),
    _token("hubspot_token", "pat-", r"pat-[a-z]{2}\d-(?P<value>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"),
    _token("readme_key", "rdme_", r"rdme_(?P<value>[a-z0-9]{64,72})"),
    _token("adafruit_key", "aio_", r"aio_(?P<value>[A-Za-z0-9]{28})"),
    _token("adobe_secret", "p8e-", r"p8e-(?P<value>[A-Za-z0-9]{32})"),
    _token("frameio_token", "fio-u-", r"fio-u-(?P<value>[\w=-]{64})"),
    _token("intra42_secret", "s-s4t2ud- s-s4t2af-", r"s-s4t2(?:ud|af)-(?P<value>[0-9a-f]{64})"),
    _token("settlemint_token", "sm_aat_ sm_pat_ sm_sat_", r"sm_[aps]at_(?P<value>[A-Za-z0-9]{16})"),
    _token("apify_token", "apify_api_", r"apify_api_(?P<value>[A-Za-z0-9]{36,46})"),
    _token("resend_key", "re_", r"re_(?P<value>[A-Za-z0-9]{8}_[A-Za-z0-9]{24})", is_real=_has_random_value),
    _token("posthog_key", "phx_", r"phx_(?P<value>[A-Za-z0-9]{40,64})"),
    _token("amazon_mws_token", "amzn.mws.", r"amzn\.mws\.(?P<value>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"),
    _token(
        "authress_key",
        "sc_ ext_ scauth_ authress_",
        r"(?:sc|ext|scauth|authress)_(?P<value>[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120})",
    ),
    Detector(
        "maxmind_key",
        (b"_mmk",),
        re.compile(r"(?<![A-Za-z0-9_])(?P<value>[A-Za-z0-9]{6}_[A-Za-z0-9]{29})_mmk(?![A-Za-z0-9])"),
        _has_real_value,
        before=36,
    ),
    _token("dropbox_token", "sl.", r"sl\.(?:u\.)?(?P<value>[\w-]{120,2000})"),
    _token("mapbox_token", "sk.eyJ pk.eyJ", r"[sp]k\.(?P<value>eyJ[\w-]{20,1000}\.[\w-]{20,40})"),
    _token("jwt", "eyJ", r"(?<![\w-])eyJ(?P<value>[\w-]{10,4096}\.eyJ[\w-]{10,16384}\.(?:[\w-]{16,2048})?)(?![\w-])"),
    # The same, in base64.
    _token("jwt", "ZXlK", r"ZXlK(?P<value>[A-Za-z0-9+/]{60,20000}={0,2})"),
)
