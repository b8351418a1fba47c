"""What can keep the verifier as a whole from working, as opposed to one candidate failing."""


class VerifierUnavailable(Exception):  # noqa: N818 - a state of the host, not a mistake
    """This host cannot verify Rust; the one-line message says what to install."""


class SandboxError(Exception):
    """The sandbox itself failed, so whatever was to run in it has no verdict."""
