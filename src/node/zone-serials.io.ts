/** Maintains the serials of the DNS zones: checks for changes every second, writes new serials to the data directory, and publishes them to all threads. */
import { join } from "node:path";
import type { Settings } from "../config/settings.ts";
import { classesOf, viewersOf } from "../dns/views/views.ts";
import {
  type ClassSerials,
  CUT_MS,
  MAX_ZONE_FILE_BYTES,
  readZoneFile,
  writeZoneFile,
  ZoneChanges,
  type ZoneChangesSources,
  ZoneVersions,
} from "../dns/views/zone-versions.ts";
import { rethrowInvariant } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import { visibilityOf } from "../policy/set/verdict.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { readSnapshotFile, setAsideSnapshotFile, writeSnapshotFile } from "../store/snapshot-file.io.ts";
import type { NodeComponent } from "./components.io.ts";

export interface ZoneSerialsParts extends ZoneChangesSources {
  readonly settings: Settings;
  readonly log: Pick<Log, "warn">;
  readonly now: () => Time;
}

export class ZoneSerials implements NodeComponent {
  /** Published serials by class of viewers, as 32-bit numbers. Read workers also read these serials. */
  readonly announced: SharedArrayBuffer;
  readonly #versions: ZoneVersions;
  readonly #changes: ZoneChanges;
  /** Undefined with `--ephemeral`. In that case the serials begin from the clock at each start. */
  readonly #path: string | undefined;
  readonly #log: Pick<Log, "warn">;
  readonly #now: () => Time;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #isFailing = false;

  private constructor({ settings, log, now, ...sources }: ZoneSerialsParts, path: string | undefined, before: PriorSerials) {
    const { callers } = classesOf(viewersOf(settings.dns, settings.node));
    const { reads } = sources;
    const classes = callers.map((viewer) => ({ key: `${viewer.tenant} ${viewer.cluster}`, sees: visibilityOf(reads, viewer) }));
    this.announced = new SharedArrayBuffer(classes.length * Uint32Array.BYTES_PER_ELEMENT);
    this.#path = path;
    this.#log = log;
    this.#now = now;
    this.#versions = new ZoneVersions({ classes, ...before, told: new Uint32Array(this.announced) }, now().wallMs);
    this.#changes = new ZoneChanges(sources, callers);
  }

  /**
   * Reads the stored serials. Resolves when the initial serials are stored and published. Undefined while DNS is off, because serials are not needed
   * then.
   */
  static async open(parts: ZoneSerialsParts): Promise<ZoneSerials | undefined> {
    const { dns, persistence } = parts.settings;
    if (!dns.enabled) return undefined;
    const path = persistence.ephemeral ? undefined : join(persistence.dataDir, DATA_FILES.zoneSerials);
    const serials = new ZoneSerials(parts, path, path === undefined ? NOTHING : await readBefore(path, parts.log));
    await serials.#keep(serials.#versions.serials);
    serials.#timer = setInterval(() => serials.#look(), CUT_MS).unref();
    return serials;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    this.#stop.abort();
  }

  #look(): void {
    this.#changes.look(this.#versions);
    // Only one write runs at a time. Changes that occur in the meantime are part of the next version.
    if (this.#writing !== undefined) return;
    const serials = this.#versions.cut(this.#now());
    if (serials !== undefined) void this.#keep(serials);
  }

  /** Writes serials and then publishes them, so that no published serial is unknown after a restart. Never rejects. */
  #keep(serials: ClassSerials): Promise<void> {
    const kept = this.#write(serials).finally(() => {
      this.#writing = undefined;
      // A failing disk must not prevent secondary servers from receiving new data. Without the file, a restart begins from the clock, which is not
      // behind the serials unless the clock was set back.
      this.#versions.tell();
    });
    this.#writing = kept;
    return kept;
  }

  async #write(serials: ClassSerials): Promise<void> {
    if (this.#path === undefined) return;
    try {
      await writeSnapshotFile(this.#path, [writeZoneFile(serials)], { maxBytes: MAX_ZONE_FILE_BYTES, signal: this.#stop.signal });
      this.#isFailing = false;
    } catch (error) {
      rethrowInvariant(error);
      if (!this.#isFailing) this.#log.warn({ err: error, path: this.#path }, "zone serials not written, trying again");
      this.#isFailing = true;
    }
  }
}

/** The serials from before this start. */
interface PriorSerials {
  readonly kept: ClassSerials;
  readonly atLeast?: number;
}

const NOTHING: PriorSerials = { kept: new Map() };

/**
 * Reads the stored serials. An unusable file is renamed, and the new serials start at the time of the file or later: the serials in the file were not
 * ahead of the clock at that time, unless the clock had been set back.
 */
async function readBefore(path: string, log: Pick<Log, "warn">): Promise<PriorSerials> {
  try {
    const file = await readSnapshotFile(path, MAX_ZONE_FILE_BYTES);
    if (file === undefined) return NOTHING;
    const kept = readZoneFile(file.bytes);
    if (kept !== undefined) return { kept };
    log.warn({ path }, "zone serials file is corrupt and was set aside: new serials are based on the clock");
    await setAsideSnapshotFile(path);
    return { kept: new Map(), atLeast: Math.ceil(file.savedWallMs / 1000) };
  } catch (error) {
    rethrowInvariant(error);
    log.warn({ err: error, path }, "zone serials not read: new serials are based on the clock");
    return NOTHING;
  }
}
