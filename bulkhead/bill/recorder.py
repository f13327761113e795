"""Measure one build: ask docker before it, sample and listen while it runs, ask docker after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bulkhead.bill import archive, cache, place
from bulkhead.bill.bill import Measurement, bill_of
from bulkhead.bill.client import ENGINE, DockerClient
from bulkhead.bill.meter import Peak, Tee, signals_blocked
from bulkhead.bill.place import Place
from bulkhead.bill.transcript import CLASSIC, Transcript
from bulkhead.build.estimate import context_size_of
from bulkhead.docker.client_engine import choice_of
from bulkhead.errors import PROBLEMS, in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.bill.archive import SavedImage
    from bulkhead.bill.bill import Bill
    from bulkhead.bill.cache import CacheChange, Records
    from bulkhead.bill.client import Builder, HistoryEntry
    from bulkhead.build.arguments import Arguments
    from bulkhead.streams import Stream

AUTO, ALWAYS, NEVER = "auto", "always", "never"  # whether the image is read with docker save
_LARGEST_UNSEEN = 4 * 2**30  # bytes of an image that is saved where nobody sees the free space
_OF_IMAGE = ("size", "compressed", "layers", "wasted", "models")
_OF_SAVED = ("compressed", "wasted", "models")
_OF_CACHE = ("cache_written", "cache_added", "cache_total", "stored")


class BillRecorder:
    """What measures a build. Call `begin`, start docker with `streams`, call `started`, and `finish` when it has ended.

    Args:
        saves: AUTO, ALWAYS or NEVER.
        say: prints a line.
        floor: bytes that the guard keeps free; 0: there is none.
    """

    def __init__(self, arguments: Arguments, saves: str, say: Callable[[str], None], floor: int = 0) -> None:
        self.has_begun = False
        self.streams: dict[int, int] = {}  # standard output and error → the descriptor that docker gets in its place
        self.steps_written: int | None = None
        self.is_disturbed = False
        self._arguments = arguments
        self._saves = saves
        self._say = say
        self._floor = floor
        self._client = DockerClient(arguments.command)
        self._transcript = Transcript()
        self._tee = Tee(self._transcript)
        self._unknown: dict[str, str] = {}
        self._info: dict[str, Any] = {}
        self._builder: Builder | None = None
        self._place = Place(())
        self._before: Records | None = None
        self._context: int | None = None
        self._peak = Peak(())
        self._began = self._ended = 0.0

    @property
    def output(self) -> Stream:
        """Return what writes docker's standard output, which can be the image itself (`--output -`)."""
        return self._tee.outputs[1]

    def begin(self) -> None:
        """Ask docker what there is, and begin to sample."""
        self.has_begun = True
        self._info = self._asked(self._client.info, ("peak",)) or {}
        choice = choice_of(self._arguments.command)
        self._builder = self._client.builder(choice.container_builder)
        if self._info:
            self._place = place.place_of(self._info, self._builder)
            if self._place.unknown:
                self._unknown["peak"] = self._place.unknown
        self._before = self._asked(self._records, _OF_CACHE)
        self._context = self._asked(self._context_size, ("context",))
        with signals_blocked():
            self._peak = Peak(self._place.paths)
            self._tee.start()
            self._peak.start()
        self.streams = self._tee.writers
        self._began = time.time()

    def started(self) -> None:
        """Note that docker runs: from now on its output ends when docker does."""
        self._tee.close()

    def ended(self) -> None:
        """Stop sampling and listening."""
        self._ended = self._ended or time.time()
        self._peak.stop()
        self._tee.stop()

    def finish(self, code: int) -> Bill:
        """Ask docker what there is now, and return the bill.

        Args:
            code: exit code of docker.
        """
        self.ended()
        change = self._change()
        image, history, saved = self._image(code)
        return bill_of(
            Measurement(
                key=self._arguments.key,
                name=self._arguments.name,
                time=self._began,
                code=code,
                seconds=self._ended - self._began,
                engine=self._engine(),
                transcript=self._transcript,
                peak=self._peak.bytes if self._place.paths else None,
                peak_step=self._transcript.running_at(self._peak.time)
                if self._place.paths and self._peak.bytes
                else None,
                change=change,
                image=image,
                history=history,
                saved=saved,
                uses_containerd=place.uses_containerd(self._info),
                context=self._context,
                # The guard does not see the steps of a builder in a container, nor those of another machine.
                steps_written=self.steps_written if self._place.paths and self._is_engines() else None,
                is_disturbed=self.is_disturbed,
                unknown=self._unknown,
            )
        )

    def _asked(self, question: Callable[[], Any], figures: tuple[str, ...]) -> Any:
        """Return an answer; None if there is none: then it is noted why the figures are not known."""
        try:
            return question()
        except PROBLEMS as error:
            self._unknown |= dict.fromkeys(figures, in_words(error))
            return None

    def _records(self) -> Records:
        assert self._builder
        return self._client.cache(self._builder)

    def _context_size(self) -> int | None:
        if self._arguments.kind != "build" or not self._arguments.is_local:
            self._unknown["context"] = "the context is no directory of this machine, or there is more than one"
            return None
        size, is_whole = context_size_of(self._arguments)
        if not is_whole:
            self._unknown["context"] = "it has too many files to count"
        return size if is_whole else None

    def _engine(self) -> str:
        if not self._info:
            return "unknown"
        store = "containerd's store" if place.uses_containerd(self._info) else str(self._info.get("Driver", ""))
        return f"Docker {self._info['ServerVersion']}, {store}"

    def _is_engines(self) -> bool:
        """Return whether the engine itself builds."""
        return not self._builder or self._builder.driver == ENGINE

    def _change(self) -> CacheChange | None:
        if self._transcript.builder == CLASSIC:
            self._unknown |= dict.fromkeys(
                _OF_CACHE, "the classic builder has no cache of its own: its steps are images"
            )
            return None
        if self._before is None:
            return None
        after = self._asked(self._records, _OF_CACHE)
        return cache.change(self._before, after) if after is not None else None

    def _image(self, code: int) -> tuple[Any, list[HistoryEntry], SavedImage | None]:
        """Return the image as docker inspects it, its history, and what is in its layers."""
        image, reason = None, ""
        if code:
            reason = "the build has failed"
        elif self._arguments.kind != "build":
            reason = "the command builds more than one image"
        elif not self._transcript.exports_image(by_engine=self._is_engines()):
            reason = "the engine has got no image: a builder of buildx's keeps it to itself without --load"
        else:
            # By its identifier where it is known: the name may be that of another image by now.
            names = [name for name in (self._transcript.image, self._arguments.tag) if name]
            image = next(filter(None, map(self._client.image, names)), None)
            reason = f"the engine has no image {names[-1]}" if names else "docker did not name the image"
        if image is None:
            self._unknown |= dict.fromkeys(_OF_IMAGE, reason)
            return None, [], None
        history = self._asked(lambda: self._client.history(str(image["Id"])), ()) or []
        return image, history, self._saved(image, sum(entry.size for entry in history))

    def _saved(self, image: dict[str, Any], size: int) -> SavedImage | None:
        if self._saves == NEVER:
            self._unknown |= dict.fromkeys(_OF_SAVED, "--save=never: the image was not read")
            return None
        if self._saves == AUTO:
            size = max(size, int(image.get("Size") or 0))
            obstacle = self._asked(
                lambda: place.obstacle_to_saving(self._info, self._place, size, _LARGEST_UNSEEN, self._floor), _OF_SAVED
            )
            if obstacle:
                self._unknown |= dict.fromkeys(_OF_SAVED, f"{obstacle}. --save=always saves it all the same")
            if obstacle != "":
                return None
        self._say("reading the image (docker save)")
        saved: SavedImage | None = self._asked(lambda: self._read(str(image["Id"])), _OF_SAVED)
        return saved

    def _read(self, image: str) -> SavedImage:
        with self._client.saved(image) as stream:
            return archive.read(stream)
