/** Keeps the serials of the zone: looks for changes once a second, writes the serials that were cut to the data directory, and tells them to all threads. */
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
import { rethrowBroken } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import { visibilityOf } from "../policy/set/verdict.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { readSnapshotFile, setAsideSnapshotFile, writeSnapshotFile } from "../store/snapshot-file.io.ts";
import type { NodeComponent } from "./components.io.ts";

export interface ZoneSerialsParts extends ZoneChangesSources {
  readonly settings: Settings;
  readonly log: Pick<Log, "warn">;
}

export class ZoneSerials implements NodeComponent {
  /** The serials that are told, by class of viewers: numbers of 32 bits, which read workers read too. */
  readonly told: SharedArrayBuffer;
  readonly #versions: ZoneVersions;
  readonly #changes: ZoneChanges;
  /** Undefined with `--ephemeral`: every start begins from its clock. */
  readonly #path: string | undefined;
  readonly #log: Pick<Log, "warn">;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #isFailing = false;

  private constructor({ settings, log, ...sources }: ZoneSerialsParts, path: string | undefined, before: PriorSerials) {
    const { callers } = classesOf(viewersOf(settings.dns, settings.node));
    const { reads } = sources;
    const classes = callers.map((viewer) => ({ key: `${viewer.tenant} ${viewer.cluster}`, sees: visibilityOf(reads, viewer) }));
    this.told = new SharedArrayBuffer(classes.length * Uint32Array.BYTES_PER_ELEMENT);
    this.#path = path;
    this.#log = log;
    this.#versions = new ZoneVersions({ classes, ...before, told: new Uint32Array(this.told) }, now().wallMs);
    this.#changes = new ZoneChanges(sources, callers);
  }

  /** Reads what was kept, and resolves when the first serials are kept and told. Undefined while DNS is off: then nothing is kept. */
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
    // One at a time. What changed meanwhile is in the next version.
    if (this.#writing !== undefined) return;
    const serials = this.#versions.cut(now());
    if (serials !== undefined) void this.#keep(serials);
  }

  /** Writes serials and then tells them, so that none was told that a restart does not know. Never rejects. */
  #keep(serials: ClassSerials): Promise<void> {
    const kept = this.#write(serials).finally(() => {
      this.#writing = undefined;
      // A disk that takes no writes must not keep secondary servers from what is new. A restart then begins from the clock, which is not behind unless it was set back.
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
      rethrowBroken(error);
      if (!this.#isFailing) this.#log.warn({ err: error, path: this.#path }, "the serials of the zone are not kept, trying again");
      this.#isFailing = true;
    }
  }
}

/** What is known of the serials before this start. */
interface PriorSerials {
  readonly kept: ClassSerials;
  readonly atLeast?: number;
}

const NOTHING: PriorSerials = { kept: new Map() };

/** A file that cannot be used is set aside. No serial in it was newer than the clock at that time, unless that was set back earlier. */
async function readBefore(path: string, log: Pick<Log, "warn">): Promise<PriorSerials> {
  try {
    const file = await readSnapshotFile(path, MAX_ZONE_FILE_BYTES);
    if (file === undefined) return NOTHING;
    const kept = readZoneFile(file.bytes);
    if (kept !== undefined) return { kept };
    log.warn({ path }, "the file with the serials of the zone is broken, and set aside; they go on from the clock");
    await setAsideSnapshotFile(path);
    return { kept: new Map(), atLeast: Math.ceil(file.savedWallMs / 1000) };
  } catch (error) {
    rethrowBroken(error);
    log.warn({ err: error, path }, "the serials of the zone cannot be read; they go on from the clock");
    return NOTHING;
  }
}
