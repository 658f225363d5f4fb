"""The settings of live messages; `app.settings` makes them part of all settings."""

from typing import Self

from pydantic import Field, model_validator

from app.settings_source import EnvironmentSettings

# What a message is sent with besides: its members' names, and the name of its client.
_AROUND_A_MESSAGE = 1024
# Of the largest that may be said: of less a client that reads fast would be closed as a slow one.
_LEAST_QUEUE = 3


class RealtimeSettings(EnvironmentSettings):
    """What a WebSocket may cost, and how long it may stay open."""

    websocket_origins: list[str] = Field(
        [],
        description="JSON list of the web origins whose pages may open WebSockets, beside the "
        "service's own and those of `APP_CORS_ORIGINS`.",
    )
    websocket_ticket_seconds: int = Field(
        30, ge=1, le=300, description="Seconds in which a ticket for a WebSocket has to be used."
    )
    websocket_idle_seconds: float = Field(
        3600.0,
        gt=0,
        description="Seconds after which a WebSocket is closed whose client is silent.",
    )
    websocket_message_bytes: int = Field(
        65_536,
        ge=1,
        description="Largest message of a client, in bytes; at most what the server itself reads.",
    )
    websocket_messages_per_second: float = Field(
        10.0,
        gt=0,
        description="Messages a second that a client may send for long; another WebSocket of its "
        "account on the same worker goes on where a closed one was.",
    )
    websocket_message_burst: int = Field(
        40, ge=1, description="Messages that a client may send at once."
    )
    websocket_bytes_per_second: float = Field(
        65_536.0,
        gt=0,
        description="Bytes a second that an account may make each client hear for long, from each "
        "worker that it is connected to; what it says is counted as it is sent, twice and escaped.",
    )
    websocket_byte_burst: int = Field(
        262_144,
        ge=1,
        description="Such bytes at once, for all WebSockets of an account on a worker; at least "
        "twice `APP_WEBSOCKET_MESSAGE_BYTES` and 1024 more.",
    )
    websocket_queue: int = Field(
        256,
        ge=1,
        description="Messages that may wait for a client who reads slowly, before it is closed.",
    )
    websocket_queue_bytes: int = Field(
        1_048_576,
        ge=1,
        description="Bytes that may wait for such a client; at least three times "
        "`APP_WEBSOCKET_BYTE_BURST`.",
    )
    websockets_per_account: int = Field(
        10, ge=1, description="WebSockets that one account may have, on all workers together."
    )
    websockets_per_worker: int = Field(
        4096, ge=1, description="WebSockets that one worker holds; one more gets 503."
    )
    websocket_recheck_seconds: float = Field(
        15.0,
        gt=0,
        le=60,
        description="Seconds between two looks at whether the sessions of open WebSockets go on; "
        "the end of a session is told at once, this is for what was not told.",
    )

    @model_validator(mode="after")
    def _check_bytes(self) -> Self:
        least = 2 * self.websocket_message_bytes + _AROUND_A_MESSAGE
        if self.websocket_byte_burst < least:
            message = (
                f"websocket_byte_burst: a message of APP_WEBSOCKET_MESSAGE_BYTES would not pass, "
                f"set APP_WEBSOCKET_BYTE_BURST to {least} at least"
            )
            raise ValueError(message)
        least = _LEAST_QUEUE * self.websocket_byte_burst
        if self.websocket_queue_bytes < least:
            message = (
                f"websocket_queue_bytes: one client could close those of all others, set "
                f"APP_WEBSOCKET_QUEUE_BYTES to {least} at least"
            )
            raise ValueError(message)
        return self
