"""The endpoint that takes the outcomes of prompts."""

from fastapi import APIRouter, Request

from udr_service.api.retrieval import PROBLEM, ServiceDep
from udr_service.api.strict_json import StrictRoute
from udr_service.schemas import OutcomesAnswer, OutcomesBody

router = APIRouter(prefix="/v1", responses={"default": PROBLEM, 422: PROBLEM}, route_class=StrictRoute)


@router.post("/outcomes")
async def outcomes(body: OutcomesBody, service: ServiceDep, request: Request) -> OutcomesAnswer:
    """Tell how good the answers to prompts were: of one, or of several, all or none. The last word on each counts."""
    told = body.to_outcomes()
    async with service.context(request) as context:
        return OutcomesAnswer(told=len(told), replaced=await context.tell(told))
