"""Which form of an operation to use: the quickest that works here, or the one that the user names.

A form is tried on a small example before its first use. One that fails is given up with one
warning, and the fallback, plain PyTorch, takes its place.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from nnmedseg.errors import UserError
from nnmedseg.ops._simulated_device import device_type

_log = logging.getLogger(__name__)

Form = TypeVar("Form", bound=Callable[..., Any])

_is_exporting: Callable[[], bool] = getattr(
    torch.compiler, "is_exporting", torch.compiler.is_compiling
)  # before PyTorch 2.7 exporting cannot be told from compiling


class Forms(Generic[Form]):
    """The forms of one operation.

    Args:
        operation: What to call it in messages.
        variable: Environment variable that names the form to use, read at each choice.
        loaders: For each form by its name, what imports it.
        preferred: For each type of device, the form to use there; the fallback on others.
        fallback: Name of the form that works everywhere, in exported programs too.
        float32_only: Names of the forms that leave float64 to the fallback.
        attempt: Called as ``attempt(form, device_type)`` before a form's first use on a type of
            device; raises where it does not work.
    """

    def __init__(
        self,
        operation: str,
        *,
        variable: str,
        loaders: Mapping[str, Callable[[], Form]],
        preferred: Mapping[str, str],
        fallback: str,
        float32_only: Collection[str],
        attempt: Callable[[Form, str], None],
    ):
        self.operation, self.variable, self.fallback = operation, variable, fallback
        self._loaders, self._preferred, self._attempt = loaders, preferred, attempt
        self._float32_only = float32_only
        self._loaded: dict[str, Form] = {fallback: loaders[fallback]()}
        self._announced: set[tuple[str, str]] = set()
        self._given_up: set[tuple[str, str]] = set()
        self._lock = threading.RLock()
        _all_forms[operation] = self

    def run(self, like: Tensor, *inputs: Any) -> Any:
        """Call the form for tensors like one of them on the inputs.

        A program of ``torch.compile`` holds the form that is chosen while it is traced, one of
        ``torch.export`` the fallback.

        Raises:
            UserError: The environment variable names an unknown form.
        """
        device = device_type(like)
        if _is_exporting():
            return self.load(self.fallback)(*inputs)
        if torch.compiler.is_compiling():
            return self._fit(_chosen_once(self.operation, device), like)(*inputs)
        if like.dtype == torch.float64 and self.wanted(device) in self._float32_only:
            return self.load(self.fallback)(*inputs)
        has_values = like.device.type != "meta" and not isinstance(like, FakeTensor)
        name = self.choose(device, has_values=has_values)
        try:
            return self.load(name)(*inputs)
        except Exception as error:
            if name == self.fallback:
                raise
            result = self.load(self.fallback)(*inputs)  # raises where the inputs are at fault
            self.give_up(name, device, error)
            return result

    def _fit(self, name: str, like: Tensor) -> Form:
        """The form, or the fallback if that one is for float32 only."""
        unfit = like.dtype == torch.float64 and name in self._float32_only
        return self.load(self.fallback if unfit else name)

    def names(self) -> list[str]:
        """The names of all forms."""
        return sorted(self._loaders)

    def load(self, name: str) -> Form:
        """Import a form; raises whatever a missing or unfit package raises."""
        if name not in self._loaded:
            with self._lock:
                self._loaded[name] = self._loaders[name]()
        return self._loaded[name]

    def wanted(self, device_type: str) -> str:
        """The form that the user names, or the preferred one, whether or not it works.

        Raises:
            UserError: The environment variable names an unknown form.
        """
        name = os.environ.get(self.variable, "").strip()
        if not name:
            return self._preferred.get(device_type, self.fallback)
        if name not in self._loaders:
            raise UserError(
                f"Unknown form of the {self.operation}: {name!r}",
                where=f"environment variable {self.variable}",
                mend=f"set it to one of {', '.join(self.names())}, or unset it",
            )
        return name

    def choose(self, device_type: str, *, has_values: bool = True) -> str:
        """Choose a form for tensors on a type of device.

        Args:
            device_type: Of the tensors, for instance ``"cpu"``.
            has_values: Whether there is such a device to try a form on, and not only shapes.

        Returns:
            The name of a form that `load` returns.

        Raises:
            UserError: The environment variable names an unknown form.
        """
        name = self.wanted(device_type)
        use = (name, device_type)
        if name == self.fallback or use in self._given_up:
            name = self.fallback
        elif use not in self._announced:
            with self._lock:
                name = self._tried(name, device_type, has_values)
        if has_values:
            self._announce(name, device_type)
        return name

    def give_up(self, name: str, device_type: str, error: Exception) -> None:
        """Use the fallback from now on, and say why, once."""
        with self._lock:
            if (name, device_type) in self._given_up:
                return
            self._given_up.add((name, device_type))
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        _log.warning(
            "%s: %s cannot be used on %s (%s); using %s instead",
            *(self.operation, name, device_type, reason, self.fallback),
        )

    def _tried(self, name: str, device_type: str, has_values: bool) -> str:
        if (name, device_type) in self._given_up:
            return self.fallback
        try:
            form = self.load(name)
            if has_values:
                self._attempt(form, device_type)
        except Exception as error:  # a binary built for another PyTorch raises OSError, and so on
            if has_values:  # else it is only not at hand for a simulated device
                self.give_up(name, device_type, error)
            return self.fallback
        return name

    def _announce(self, name: str, device_type: str) -> None:
        if (name, device_type) not in self._announced:
            self._announced.add((name, device_type))
            _log.info("%s: %s on %s", self.operation, name, device_type)


_all_forms: dict[str, Forms[Any]] = {}


@torch.compiler.assume_constant_result
def _chosen_once(operation: str, device_type: str) -> str:
    """The form that a compiled program holds; it is imported here, which cannot be traced."""
    forms = _all_forms[operation]
    name = forms.choose(device_type)
    forms.load(name)
    return name
