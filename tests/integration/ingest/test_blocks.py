"""A real worker makes block sums beside the maps, and goes on with them after it was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.support.beamline import Scan, some_frames
from tests.support.lab import Lab, WorkerProcess, write_frames

from snakemap.blocks.block_directory import BlockDirectory
from snakemap.core.roi import Roi
from snakemap.live.block_maker import key_of
from snakemap.live.measured import measured


async def test_a_killed_worker_goes_on_with_its_sums(redis_url: str, tmp_path: Path) -> None:
    scan = Scan(shape=(10, 10), frames=some_frames(100))
    write_frames(tmp_path / "run.h5", scan.frames)
    directory = BlockDirectory(tmp_path / "blocks", bytes_max=10**9)
    height, width = scan.frames.shape[1:]
    roi = Roi("a", 0, height, 0, width)
    lab = Lab(redis_url, root=tmp_path, blocks_dir=directory.path, blocks_max_gb=1)

    async def there() -> int:
        run = await lab.run("run")
        reader = directory.reader(key_of(run, run.main))
        reader.refresh()
        return int(np.count_nonzero(reader.boxes(*measured(run.main), roi)[0]))

    whole = scan.whole()
    async with lab:
        async with WorkerProcess(lab):
            await lab.append(*whole[:40], run="run")
            await lab.until_points("run", 10)
            await lab.until(there)
        await lab.append(*whole[40:], run="run")
        async with WorkerProcess(lab):
            await lab.until_settled("run")

            async def all_there() -> bool:
                return await there() == 100

            await lab.until(all_there)
        run = await lab.run("run")
        reader = directory.reader(key_of(run, run.main))
        reader.refresh()
        _, sums = reader.boxes(*measured(run.main), roi)
        np.testing.assert_array_equal(sums, scan.frames.reshape(100, -1).sum(axis=1))
