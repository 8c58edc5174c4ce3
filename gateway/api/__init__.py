"""Room of `fastapi`: the HTTP door of the control process."""
