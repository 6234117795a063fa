/** The file with the members of this node's cluster, which a node remembers across restarts. `core/roster-file.ts` decides when it is written. */

import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { MEMBERSHIP_FIXED } from "../../fabric/membership/options.ts";
import { readRosterFile } from "../../fabric/snapshot/codec.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { FileOwner } from "../../lib/file-blocks.ts";
import type { Log } from "../../lib/log.io.ts";
import { DATA_FILES } from "../../store/data-directory.ts";
import { writeSnapshotFile } from "../../store/snapshot-file.io.ts";

const MAX_BYTES = 1 << 24;

export class MembersFile {
  /** The members before this start. */
  readonly remembered: readonly string[];
  readonly #log: Pick<Log, "warn">;
  /** Undefined with `--ephemeral`, because nothing is remembered. */
  readonly #path: string | undefined;
  readonly #stop = new AbortController();
  #writing: Promise<unknown> = Promise.resolve();

  constructor({ dataDir, ephemeral }: Pick<Settings["persistence"], "dataDir" | "ephemeral">, self: FileOwner, log: Pick<Log, "warn">) {
    this.#log = log;
    this.#path = ephemeral ? undefined : join(dataDir, DATA_FILES.members);
    this.remembered = this.#read(self);
  }

  /** Rejects if the file cannot be written. The old file is kept in that case. Must not be called concurrently. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#path === undefined || this.#stop.signal.aborted) return;
    const writing = writeSnapshotFile(this.#path, [bytes], { maxBytes: MAX_BYTES, signal: this.#stop.signal });
    this.#writing = writing.catch(() => undefined);
    await writing;
  }

  /** Resolves when no write is running. */
  async close(): Promise<void> {
    await this.#writing;
    this.#stop.abort();
  }

  /** An unreadable file does not prevent the start, because the members announce themselves. */
  #read(self: FileOwner): readonly string[] {
    if (this.#path === undefined) return [];
    try {
      return readRosterFile(readFileSync(this.#path), self, MEMBERSHIP_FIXED.maxMembers);
    } catch (error) {
      rethrowInvariant(error);
      const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!isMissing) this.#log.warn({ err: error, path: this.#path }, "members file not read: earlier members are unknown");
      return [];
    }
  }
}

// The marker for earlier peers in the data directory. A node writes the marker when it connects to its first peer.

export function isMarked({ persistence }: Settings): boolean {
  return !persistence.ephemeral && existsSync(join(persistence.dataDir, DATA_FILES.hadPeers));
}

export async function writeMark({ persistence }: Settings, log: Log): Promise<void> {
  if (persistence.ephemeral) return;
  try {
    await writeFile(join(persistence.dataDir, DATA_FILES.hadPeers), "", { mode: 0o600 });
  } catch (error) {
    log.warn({ err: error }, "first-peer marker not written");
  }
}
