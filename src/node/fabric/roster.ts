/**
 * The members of its own cluster that a node remembers over a restart: a file in the data directory, written whenever others belong to it
 * (semantics.md, Tombstones). The snapshot would not do: it is written once a minute, or never.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { MEMBERSHIP_DEFAULTS } from "../../fabric/membership/options.ts";
import type { Roster } from "../../fabric/roster.ts";
import { type OwnerOfFile, readRosterFile, rosterFile } from "../../fabric/snapshot/codec.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { writeSnapshotFile } from "../../store/snapshot-file.io.ts";

const FILE = "members";
const MAX_BYTES = 1 << 24;
/** What could not be written is tried again after this. */
const RETRY_MS = 1000;

export class RosterFile {
  /** Who was there before this start. */
  readonly remembered: readonly string[];
  readonly #self: OwnerOfFile;
  readonly #log: Pick<Log, "warn">;
  /** Undefined with `--ephemeral`: nothing is remembered. */
  readonly #path: string | undefined;
  readonly #stop = new AbortController();
  /** Of the roster that is on disk, or on its way. */
  #version = 0;
  /** A file is being written, or soon tried again. */
  #isBusy = false;
  #writing: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;

  constructor({ dataDir, ephemeral }: Pick<Settings["persistence"], "dataDir" | "ephemeral">, self: OwnerOfFile, log: Pick<Log, "warn">) {
    this.#self = self;
    this.#log = log;
    this.#path = ephemeral ? undefined : join(dataDir, FILE);
    this.remembered = this.#read();
  }

  /** After each turn of the fabric. What changes while a file is written is in the next one. */
  look(roster: Pick<Roster, "version" | "list">): void {
    if (this.#path === undefined || this.#isBusy || roster.version === this.#version || this.#stop.signal.aborted) return;
    this.#version = roster.version;
    this.#isBusy = true;
    const again = () => {
      this.#isBusy = false;
      this.look(roster);
    };
    this.#writing = this.#write(this.#path, rosterFile(this.#self, roster.list()), again);
  }

  /** Ends when nothing is being written. */
  async close(): Promise<void> {
    for (let last: Promise<void> | undefined; last !== this.#writing; ) {
      last = this.#writing;
      await last;
    }
    this.#stop.abort();
    clearTimeout(this.#retry);
  }

  /** What cannot be read is of no use, and keeps no node from starting: the members tell who they are. */
  #read(): readonly string[] {
    if (this.#path === undefined) return [];
    try {
      return readRosterFile(readFileSync(this.#path), this.#self, MEMBERSHIP_DEFAULTS.maxMembers);
    } catch (error) {
      rethrowBroken(error);
      const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!isMissing) this.#log.warn({ err: error, path: this.#path }, "the members that were there before the start are not known");
      return [];
    }
  }

  async #write(path: string, bytes: Uint8Array, again: () => void): Promise<void> {
    try {
      await writeSnapshotFile(path, [bytes], { maxBytes: MAX_BYTES, signal: this.#stop.signal });
      again();
    } catch (error) {
      rethrowBroken(error);
      this.#log.warn({ err: error, path }, "the members of the cluster are not written down, trying again");
      this.#version = -1;
      this.#retry = setTimeout(again, RETRY_MS).unref();
    }
  }
}
