"""Line items as rows of FOCUS 1.2, the FinOps Open Cost and Usage Specification.

A tenant is a sub account; project, key, size and tier are columns of our own (``x_…``). The month of UTC is
the billing period. List prices are by service tier; the effective cost is what the ledger booked.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from app.domain.line_items import METER_NAMES, get_price_tier

if TYPE_CHECKING:
    from app.domain.line_items import LineItem

COLUMNS: Final = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *(
        "EffectiveCost",
        "InvoiceIssuerName",
        "ListCost",
        "ListUnitPrice",
        "PricingCategory",
        "PricingQuantity",
    ),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory"),
    *(
        "SkuId",
        "SkuMeter",
        "SkuPriceDetails",
        "SkuPriceId",
        "SubAccountId",
        "SubAccountName",
        "SubAccountType",
    ),
    *("x_Project", "x_Key", "x_Model", "x_ImageSize", "x_ServiceTier"),
)
_SERVICE: Final = "Gemini image generation"
_PROVIDER: Final = "Google"


def build_focus_row(item: LineItem, account: str) -> dict[str, str]:
    """A row of FOCUS, by column; empty for null.

    Args:
        item: A line item of the ledger.
        account: Id of the billing account at Google.
    """
    row, day = item.row, item.row.day
    cost = format_decimal(item.cost)
    common = {
        "BilledCost": cost,
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingCurrency": "USD",
        "BillingPeriodStart": _format_day(day.replace(day=1)),
        "BillingPeriodEnd": _format_day((day.replace(day=28) + timedelta(days=4)).replace(day=1)),
        "ChargeCategory": "Adjustment",
        "ChargeClass": "",
        "ChargeDescription": METER_NAMES[item.meter],
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _format_day(day),
        "ChargePeriodEnd": _format_day(day + timedelta(days=1)),
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": _PROVIDER,
        "ListCost": format_decimal(item.list_cost),
        "ProviderName": _PROVIDER,
        "PublisherName": _PROVIDER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": _SERVICE,
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": row.tenant_id,
        "SubAccountName": row.tenant_id,
        "SubAccountType": "Tenant",
        "x_Project": row.project_id or "",
        "x_Key": row.key_id or "",
        "x_Model": row.model or "",
        "x_ImageSize": row.size or "",
        "x_ServiceTier": row.tier or "",
    }
    return dict.fromkeys(COLUMNS, "") | common | _build_usage_columns(item)


def _build_usage_columns(item: LineItem) -> dict[str, str]:
    """The columns of a item that has a price; none for one that is only a cost."""
    if not item.unit:
        return {}
    model, tier = item.row.model, get_price_tier(item.row)
    kind, category = "Tokens", "Standard"
    if item.meter == "searches":
        kind = "Queries"
    if tier == "provisioned":
        category = "Other"
    sku, name = f"{model}/{item.meter}", METER_NAMES[item.meter]
    return {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{name} of {model}, {tier}",
        "ConsumedQuantity": str(item.quantity),
        "ConsumedUnit": kind,
        "ListUnitPrice": format_decimal(item.unit_price),
        "PricingCategory": category,
        "PricingQuantity": format_decimal(Decimal(item.quantity) / item.unit),
        "PricingUnit": f"{item.unit} {kind}",
        "SkuId": sku,
        "SkuMeter": name,
        "SkuPriceDetails": json.dumps({"x_Model": model, "x_ServiceTier": tier}),
        "SkuPriceId": f"{sku}/{tier}",
    }


def _format_day(day: date) -> str:
    """The first moment of a day of UTC."""
    return f"{day.isoformat()}T00:00:00Z"


def format_decimal(number: Decimal) -> str:
    """A decimal without an exponent and without trailing zeros."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text
