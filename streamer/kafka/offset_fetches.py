"""aiokafka takes a coordinator that cannot tell what a group has committed for a group that committed nothing."""

from __future__ import annotations

from typing import Any

from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchRequest

UNCHECKED = GroupCoordinator._send_req


async def _send_checked(coordinator: Any, request: Any) -> Any:
    """The answer of the coordinator. Raises its error as a KafkaError, also where an answer about offsets is one.

    From version 2 of the request on (KIP-88), a coordinator that has only just taken a group over and still reads its
    offsets (COORDINATOR_LOAD_IN_PROGRESS), or that has lost it (NOT_COORDINATOR), says so once for all partitions and
    names none of them. aiokafka looks for errors of partitions alone, finds neither those nor offsets, and the consumer
    begins at `auto_offset_reset`.
    """
    answer = await UNCHECKED(coordinator, request)
    if isinstance(request, OffsetFetchRequest):
        kind = errors.for_code(getattr(answer, "error_code", 0))
        if kind in (errors.NotCoordinatorForGroupError, errors.GroupCoordinatorNotAvailableError):
            coordinator.coordinator_dead()
        if kind is not errors.NoError:
            raise kind()
    return answer


def check_offset_fetches() -> None:
    """Make every aiokafka consumer of this process, Faust's too, ask again until its coordinator can tell."""
    GroupCoordinator._send_req = _send_checked
