"""Several jobs at once that wait for the disk: each in a thread."""

from __future__ import annotations

from threading import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def all_at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Carry out *jobs*, the first in this thread. Returns, or raises, when all have ended.

    Whatever happens, Ctrl-C too: nobody may take back or close what a thread still works with.
    """
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised at the end
            errors.append(error)

    threads = [Thread(target=run, args=(job,)) for job in jobs[1:]]
    try:
        for thread in threads:
            thread.start()
        jobs[0]()
    except BaseException as error:  # noqa: BLE001 - raised at the end
        errors.insert(0, error)
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:  # noqa: BLE001 - raised at the end
                errors.insert(0, error)
    if errors:
        raise errors[0]
