"""A script, read and ready to be packed with any payload, and where to: what every command that packs does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from generator.audit.checking import RunCheck
from generator.audit.inspection import Inspection
from generator.audit.packed_script import open_script
from generator.emit import Emitted, Emitter
from generator.files import check_output
from generator.finishing import compare, read_back, write
from generator.packing import PackingOptions, packing_options
from generator.payload import Payload
from generator.progress import Listener, Stage


@dataclass(frozen=True)
class Job:
    """What is to be packed, and where to.

    Attributes:
        script: the user's file.
        emitter: makes artifacts of it.
        output: the artifact's place, links followed.
    """

    script: Path
    emitter: Emitter
    output: Path

    def emit(self, payload: Payload | None, progress: Listener | None) -> Emitted:
        """Rendered, minified and carried, as stage "minify"; errors as for `Emitter.emit`."""
        with Stage("minify", progress) as stage:
            emitted = self.emitter.emit(payload, self.output.stem)
        stage.log.info(
            "carrier %s, compressor %s, names %s: %d bytes",
            emitted.carrier,
            emitted.compressor,
            emitted.variant,
            emitted.written.size,
        )
        return emitted

    def finish(
        self,
        payload: Payload | None,
        emitted: Emitted,
        budget: int | None,
        check: RunCheck | None,
        progress: Listener | None,
    ) -> Inspection:
        """Read back, compared, rehearsed and written; errors as for `generator.finishing`."""
        draft = read_back(emitted.written, self.output, budget)
        compared = compare(self.script, draft, payload, check, progress) if check is not None else []
        write(draft, payload, progress)
        return replace(draft.inspection, notes=[*emitted.notes, *compared])


def open_job(script: str | Path, packing: PackingOptions, outputs: Sequence[str | Path], *inputs: object) -> Job:
    """Read what is to be packed, before anything is computed.

    Args:
        script: the user's script, or an artifact.
        packing: how it is packed.
        outputs: what will be written, the artifact first.
        inputs: what else will be read, as far as it is files.

    Raises:
        InputError: the script can't be read, or an output can't be written, is an input or another output.
    """
    files = paths_of(script, *inputs, *packing.get("include", ()))
    for number, output in enumerate(outputs):
        check_output(output, [*files, *outputs[:number]])
    parsed, carried = open_script(script)
    options = packing_options(parsed, packing, carried)
    for output in outputs:
        check_output(output, options.bundle.paths)
    return Job(parsed.path, Emitter(parsed, options), check_output(outputs[0]))


def paths_of(*inputs: object) -> list[Path]:
    """Those of a command's inputs that are files."""
    return [Path(one) for one in inputs if isinstance(one, str | Path)]
