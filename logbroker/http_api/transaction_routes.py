"""The routes of transactions: a part of the table in ``routes``."""

from logbroker.errors import InvalidRequest, InvalidTransactionState, TransactionNotFound
from logbroker.http_api import transactions
from logbroker.http_api.requests import JSON
from logbroker.http_api.route import Route

_TRANSACTION = "/v1/transactions/{transaction}"

TRANSACTION_ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/v1/transactions",
        "list_transactions",
        "transactions",
        transactions.list_transactions,
        query=transactions.TransactionsQuery,
        answer={JSON: transactions.TransactionsOut},
        errors=(InvalidRequest,),
    ),
    Route(
        "GET",
        _TRANSACTION,
        "get_transaction",
        "transactions",
        transactions.get_transaction,
        answer={JSON: transactions.TransactionOut},
        errors=(TransactionNotFound,),
    ),
    Route(
        "POST",
        _TRANSACTION + ":abort",
        "abort_transaction",
        "transactions",
        transactions.abort_transaction,
        answer={JSON: transactions.TransactionOut},
        errors=(TransactionNotFound, InvalidTransactionState),
    ),
)
