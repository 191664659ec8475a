import orchx
from orchx.client import AsyncClient, Client


def test_the_clients_are_at_the_front_door() -> None:
    assert (orchx.Client, orchx.AsyncClient) == (Client, AsyncClient)
