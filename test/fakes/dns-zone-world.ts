/** The versions of a zone in a world of DNS: cut as time goes on, kept, and told, by a node that starts again and whose clock is set back. */
import assert from "node:assert/strict";
import type { CatalogReads } from "../../src/discovery/reads.ts";
import { classesOf, type ViewerOfView } from "../../src/dns/views/views.ts";
import { type ClassSerials, isNewer, ZoneChanges, type ZoneChangesSources, ZoneVersions } from "../../src/dns/views/zone-versions.ts";
import type { Rng } from "../../src/lib/rng.ts";
import { visibilityOf } from "../../src/policy/set/verdict.ts";

const START_WALL_MS = 1_800_000_000_000;

export class ZoneOfWorld {
  readonly #sources: ZoneChangesSources & { readonly reads: CatalogReads };
  readonly #classes: ReturnType<typeof classesOf>;
  readonly #rng: Rng;
  readonly #told: Uint32Array;
  /** What each view was told last. */
  readonly #last = new Map<number, number>();
  #versions: ZoneVersions;
  #changes: ZoneChanges;
  #monoMs = 0;
  #wallMs = START_WALL_MS;

  constructor(sources: ZoneChangesSources & { readonly reads: CatalogReads }, viewers: readonly ViewerOfView[], rng: Rng) {
    this.#sources = sources;
    this.#classes = classesOf(viewers);
    this.#rng = rng;
    this.#told = new Uint32Array(this.#classes.callers.length);
    this.#versions = this.#started(new Map());
    this.#changes = new ZoneChanges(sources, this.#classes.callers);
    this.#versions.tell();
  }

  serialOf(view: number): number {
    return this.#told[this.#classes.ofView[view] ?? 0] ?? 0;
  }

  /** Some time goes by, the clock is perhaps set, and the node perhaps starts again from what it kept. */
  step(): void {
    const ms = 200 + this.#rng.int(2000);
    this.#monoMs += ms;
    this.#wallMs += ms;
    const dice = this.#rng.int(20);
    if (dice === 0) this.#wallMs -= this.#rng.int(86_400_000);
    if (dice === 1) this.#wallMs += this.#rng.int(3_600_000);
    this.#changes.look(this.#versions);
    this.#versions.cut({ monoMs: this.#monoMs, wallMs: this.#wallMs });
    if (dice === 2) {
      this.#versions = this.#started(this.#versions.serials);
      this.#changes = new ZoneChanges(this.#sources, this.#classes.callers);
    }
    this.#versions.tell();
  }

  /** A view was told a serial. A secondary server that has a newer one would not take the zone again. */
  checkTold(view: number, serial: number): void {
    assert.equal(serial, this.serialOf(view), `the serial of view ${view}`);
    const last = this.#last.get(view);
    assert(last === undefined || !isNewer(last, serial), `view ${view} is told the serial ${serial} after ${last}`);
    this.#last.set(view, serial);
  }

  #started(kept: ClassSerials): ZoneVersions {
    const classes = this.#classes.callers.map((caller) => ({
      key: `${caller.tenant} ${caller.cluster}`,
      sees: visibilityOf(this.#sources.reads, caller),
    }));
    return new ZoneVersions({ classes, kept, told: this.#told }, this.#wallMs);
  }
}
