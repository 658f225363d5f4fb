"""What is said about live messages over HTTP."""

from pydantic import BaseModel, Field


class TicketView(BaseModel):
    """What opens one WebSocket."""

    ticket: str = Field(description="Sent as the sub-protocol `ticket.<value>`, once.")
    expires_in: int = Field(description="Seconds in which it has to be used.")
    protocol: str = Field(description="The sub-protocol that is spoken, sent beside the ticket.")
