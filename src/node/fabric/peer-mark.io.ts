/** The mark in the data directory that other nodes were there. A node writes it when it meets its first peer. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import type { Log } from "../../lib/log.io.ts";
import { DATA_FILES } from "../../store/data-directory.ts";

export function isMarked({ persistence }: Settings): boolean {
  return !persistence.ephemeral && existsSync(join(persistence.dataDir, DATA_FILES.hadPeers));
}

export async function writeMark({ persistence }: Settings, log: Log): Promise<void> {
  if (persistence.ephemeral) return;
  try {
    await writeFile(join(persistence.dataDir, DATA_FILES.hadPeers), "", { mode: 0o600 });
  } catch (error) {
    log.warn({ err: error }, "mark of the first peer not written");
  }
}
