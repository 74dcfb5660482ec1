"""Tokens with a shape of their own: one detector for each provider's prefix, such as `ghp_…` or `AKIA…`.

The shapes come from the providers' documentation. Ids that grant no access (of an AWS role, of a Twilio account, a
Stripe test key) are not secrets. Nothing is masked here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from flyte_llama.redaction.detector import Detector, DetectorTable, is_random, is_token, value_is

# Tokens do not begin inside a word; but in source code they may follow an escape such as `\n`.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_END = r"(?![A-Za-z0-9])"


_has_real_value = value_is(is_token)
_has_random_value = value_is(is_token, is_random)


def _token(
    name: str, literals: str, shape: str, *, is_real: Callable[[re.Match[str]], bool] = _has_real_value, before: int = 0
) -> Detector:
    pattern = re.compile(_START + shape + _END, re.ASCII)
    return Detector(name, tuple(literal.encode() for literal in literals.split()), pattern, is_real, before=before)


def _is_private_key(match: re.Match[str]) -> bool:
    # The literal's 14 characters of base64 end inside a byte, so the value cannot be decoded without them.
    encoded = match[0][: match[0].index(match["value"]) + 44]
    return b"PRIVATE KEY" in base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=False)


# Every literal is inside or next to a word of 20 or more characters, so only such words need to be searched
# (`detector.long_words`).
PROVIDERS = DetectorTable(
    # clouds; AWS ids are base 32, where the digits 0, 1, 8 and 9 do not occur
    _token("aws_access_key_id", "AKIA ASIA ABIA ACCA", r"A(?:KI|SI|BI|CC)A(?P<value>[A-Z2-7]{16})"),
    _token("aws_bedrock_key", "ABSK", r"ABSK(?P<value>[A-Za-z0-9+/]{100,300}={0,2})"),
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
    _token("firebase_key", "AAAA", r"AAAA(?P<value>[\w-]{7}:[\w-]{120,160})(?![\w-])"),
    _token("digitalocean_token", "doo_v1_ dop_v1_ dor_v1_", r"do[opr]_v1_(?P<value>[0-9a-f]{64})"),
    _token("databricks_token", "dapi dose", r"(?:dapi|dose)(?P<value>[0-9a-f]{32}(?:-\d)?)"),
    _token("cloudflare_key", "v1.0-", r"v1\.0-(?P<value>[0-9a-f]{24}-[0-9a-f]{146})"),
    _token("heroku_key", "HRKU-", r"HRKU-(?P<value>[\w-]{36,80})"),
    _token("fly_token", "fo1_ fm1a_ fm1r_ fm2_", r"(?:fo1|fm1a|fm1r|fm2)_(?P<value>[A-Za-z0-9+/_-]{40,2000}={0,3})"),
    _token("netlify_token", "nfp_", r"nfp_(?P<value>[A-Za-z0-9]{36})"),
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
    # messages and mail
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
    _token("stripe_key", "sk_live_ rk_live_", r"[sr]k_live_(?P<value>[A-Za-z0-9]{20,255})"),
    _token("stripe_key", "whsec_", r"whsec_(?P<value>[A-Za-z0-9+/]{32,64}={0,2})"),
    _token("square_token", "sq0atp- sq0csp-", r"sq0(?:atp|csp)-(?P<value>[\w-]{22,43})(?![\w-])"),
    _token("square_token", "EAAA", r"EAAA(?P<value>[\w-]{60})(?![\w-])", is_real=_has_random_value),
    _token("facebook_token", "EAA", r"EAA(?P<value>[A-Za-z0-9]{90,400})", is_real=_has_random_value),
    _token("shopify_token", "shp", r"shp(?:at|ca|pa|ss|tka)_(?P<value>[0-9a-fA-F]{32})"),
    _token("razorpay_key", "rzp_live_", r"rzp_live_(?P<value>[A-Za-z0-9]{14,24})"),
    _token("shippo_token", "shippo_live_", r"shippo_live_(?P<value>[0-9a-f]{40})"),
    _token("duffel_token", "duffel_live_", r"duffel_live_(?P<value>[\w-]{43})(?![\w-])"),
    _token("easypost_key", "EZAK", r"EZAK(?P<value>[A-Za-z0-9]{54})"),
    _token("flutterwave_key", "FLWSECK-", r"FLWSECK-(?P<value>[0-9a-zA-Z]{32})"),
    # operations
    _token("vault_token", "hvs. hvb. hvr.", r"hv[sbr]\.(?P<value>[\w-]{24,300})(?![\w-])"),
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
    _token("dropbox_token", "sl.", r"sl\.(?:u\.)?(?P<value>[\w-]{120,2000})"),
    _token("mapbox_token", "sk.eyJ", r"sk\.(?P<value>eyJ[\w-]{20,1000}\.[\w-]{20,40})"),
    # base64 of `-----BEGIN `; the next characters hold the label, such as RSA PRIVATE KEY
    Detector(
        "private_key_base64",
        (b"LS0tLS1CRUdJTi",),
        re.compile(_START + r"LS0tLS1CRUdJTi(?P<value>[A-Za-z0-9+/]{60,20000}={0,2})", re.ASCII),
        _is_private_key,
    ),
    _token("jwt", "eyJ", r"(?<![\w-])eyJ(?P<value>[\w-]{10,4096}\.eyJ[\w-]{10,16384}\.[\w-]{16,2048})(?![\w-])"),
)
