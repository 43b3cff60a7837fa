"""Routes that list blueapi's plans, with the schemas for a form."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from snakemap.api.auth import token_of
from snakemap.api.error_responses import refusals
from snakemap.api.models import Tag
from snakemap.api.routes.runs import ServiceDep, service_of
from snakemap.blueapi.client import Plan
from snakemap.errors import BlueapiFailed, BlueapiForbids, BlueapiUnavailable, PlanNotFound

__all__ = ["PlanModel", "plans"]

plans = APIRouter(
    prefix="/api",
    tags=[Tag.PLANS],
    responses=refusals(
        {
            BlueapiForbids: "blueapi refuses the token.",
            BlueapiFailed: "blueapi answered with an error of its own.",
            BlueapiUnavailable: "blueapi cannot be reached, or none is set.",
        }
    ),
)

SCHEMA = {
    "type": "object",
    "properties": {"rows": {"type": "integer", "minimum": 1}, "columns": {"type": "integer", "minimum": 1}},
    "required": ["rows", "columns"],
}


class PlanModel(BaseModel):
    """A plan that blueapi offers."""

    name: str = Field(examples=["grid_scan"])
    description: str = Field(description="Its docstring.", examples=["Scan over a mesh."])
    parameters: dict[str, Any] = Field(
        description="JSON schema of its parameters. A device is a text; the `enum` of its names is a suggestion.",
        serialization_alias="schema",
        examples=[SCHEMA],
    )


def _token(request: Request) -> str:
    return token_of(request, service_of(request).settings)


Token = Annotated[str, Depends(_token)]


@plans.get("/plans", summary="List plans", response_model=list[PlanModel])
async def list_plans(service: ServiceDep, token: Token) -> list[PlanModel]:
    """The plans that blueapi offers, by name; POST /api/runs/{uid}/again starts one with other parameters."""
    return [_model(plan) for plan in await service.control.blueapi.plans(token=token)]


@plans.get(
    "/plans/{name}",
    summary="One plan",
    response_model=PlanModel,
    responses=refusals({PlanNotFound: "blueapi has no such plan."}),
)
async def one_plan(
    name: Annotated[str, Path(description="Of a plan.", max_length=200, examples=["grid_scan"])],
    service: ServiceDep,
    token: Token,
) -> PlanModel:
    """One plan."""
    return _model(await service.control.plan(name, token=token))


def _model(plan: Plan) -> PlanModel:
    return PlanModel(name=plan.name, description=plan.description, parameters=plan.schema)
