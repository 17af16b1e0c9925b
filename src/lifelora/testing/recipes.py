"""What a kind of any role promises to recipes: it is found by its name, and what is dumped comes back. Knows no role."""

from lifelora.kinds import Role, Variant


def comes_back(role: Role, config: Variant) -> None:
    """A recipe finds the class by ``kind``, and a dump of the configuration gives the same one."""
    again = role.validated(config.model_dump(mode="json"))
    assert type(again) is type(config), f"kind = '{config.kind}' is {type(again)}, not {type(config)}"
    assert again == config, f"{config!r} comes back as {again!r}"
    try:
        role.validated(config.model_dump(mode="json") | {"no_such_key": 1})
    except ValueError:
        return
    raise AssertionError(f"{type(config).__name__} takes keys that it does not have")
