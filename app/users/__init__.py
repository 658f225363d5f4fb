"""Accounts. What other features may use of them is named here."""

from app.users.administration import (
    AccountCounts,
    SuperAdminError,
    close_account,
    count_accounts,
    hand_over,
    hold_active,
    list_users,
    reopen_account,
    set_role,
)
from app.users.password_rules import check_password, common_passwords
from app.users.proof import prove_password, unlock_proof
from app.users.schemas import Password, Registration, UserView
from app.users.service import (
    VERIFY_EMAIL,
    Credentials,
    Made,
    UserNotFoundError,
    confirm,
    find_credentials,
    find_user,
    hold,
    lock_user,
    mark_verified,
    register,
    set_password_hash,
)

__all__ = [
    "VERIFY_EMAIL",
    "AccountCounts",
    "Credentials",
    "Made",
    "Password",
    "Registration",
    "SuperAdminError",
    "UserNotFoundError",
    "UserView",
    "check_password",
    "close_account",
    "common_passwords",
    "confirm",
    "count_accounts",
    "find_credentials",
    "find_user",
    "hand_over",
    "hold",
    "hold_active",
    "list_users",
    "lock_user",
    "mark_verified",
    "prove_password",
    "register",
    "reopen_account",
    "set_password_hash",
    "set_role",
    "unlock_proof",
]
